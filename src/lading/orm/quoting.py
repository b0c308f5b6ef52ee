"""Names and texts in statements that lading writes out by itself."""

import hashlib

from sqlalchemy import Dialect

NAME_BYTES = 63
"""The longest name, in bytes: the limit of PostgreSQL; those of MariaDB and MySQL are 64 characters."""


def name(dialect: Dialect, *parts: str | None) -> str:
    """A quoted name, after that of a schema where there is one.

    Always quoted, unlike `preparer.quote`: its list of reserved words knows nothing of the inside of a trigger. Percent
    signs stay single, so the result belongs into a `DDL` whose own are escaped.
    """
    p = dialect.identifier_preparer
    quoted = [
        p.initial_quote + part.replace(p.escape_quote, p.escape_to_quote) + p.final_quote for part in parts if part
    ]
    return ".".join(quoted)


def literal(text: str) -> str:
    """A text in quotes, for databases that take a backslash for one."""
    return "'" + text.replace("'", "''") + "'"


def short(text: str, suffix: str = "") -> str:
    """A name that fits: where it is too long, its end gives way to a hash of it."""
    whole = (text + suffix).encode()
    if len(whole) <= NAME_BYTES:
        return text + suffix
    digest = "_" + hashlib.sha256(whole).hexdigest()[:8] + suffix
    return text.encode()[: NAME_BYTES - len(digest)].decode(errors="ignore") + digest
