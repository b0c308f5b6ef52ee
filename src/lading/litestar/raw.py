"""Bodies that are one file, and nothing else: what `curl -T` sends."""

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

from litestar import Request

from lading.errors import MalformedBody
from lading.file import FileObject
from lading.litestar.fields import FileField
from lading.litestar.forms import stored
from lading.receiving import RequestBody, check_whole

# RFC 6266, section 4.1, and RFC 8187, section 3.2.1; a quoted string may hold what is quoted by a backslash.
_NAME = re.compile(r""";\s*filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]+))""", re.IGNORECASE)
_EXTENDED = re.compile(r""";\s*filename\*\s*=\s*(UTF-8|ISO-8859-1)'[^']*'([^;\s"]+)""", re.IGNORECASE)

# What clients say of a body when nobody has told them what it is.
_SAYS_NOTHING = ("", "application/x-www-form-urlencoded")


async def read(request: Request[Any, Any, Any], body: RequestBody, field: FileField) -> FileObject | None:
    """The file that a body is, stored by its column's rules as it arrives.

    Its name is that of Content-Disposition, or of the query parameter `filename`, or else `upload`; the rules and the
    bytes decide what it is.

    Returns:
        `None` for a body without a byte where the handler can do without a file.

    Raises:
        Refused, StoreError: see `lading.ops.save.save`.
    """
    claim, _ = request.content_type
    first = await anext(body, b"")
    if not first and field.nullable:
        return None
    assert field.policy is not None
    return await stored(field.policy, name_of(request), None if claim in _SAYS_NOTHING else claim, _whole(first, body))


def check(request: Request[Any, Any, Any]) -> None:
    """Refuse what need not be read to be known as no file.

    Raises:
        MalformedBody: it is a form, or the part of a file, or has two names.
    """
    if request.content_type[0] == "multipart/form-data":
        raise MalformedBody("the body is to be the file itself, and not a form")
    check_whole(request.headers)
    name_of(request)


def name_of(request: Request[Any, Any, Any]) -> str:
    """What a client calls the file that its body is; to be sanitised."""
    said = request.headers.getall("content-disposition", [])
    if len(said) > 1:
        raise MalformedBody("the request has more than one Content-Disposition")
    for header in said:
        if extended := _EXTENDED.search(header):
            return unquote(extended[2], encoding=extended[1], errors="replace")
        if plain := _NAME.search(header):
            return _decoded(re.sub(r"\\(.)", r"\1", plain[1]) if plain[1] is not None else plain[2])
    return request.query_params.get("filename") or "upload"


def _decoded(name: str) -> str:
    """A header's text is ISO-8859-1 to Litestar; many clients mean UTF-8."""
    try:
        return name.encode("latin-1").decode()
    except UnicodeError:
        return name


async def _whole(first: bytes, rest: RequestBody) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for chunk in rest:
        yield chunk
