"""One transaction of the soak: which rows it has in hand, and what it leaves of them."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import CursorResult, TextClause, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from lading import FileObject
from tests.soak.journal import State, Written
from tests.soak.models import Document, registry

FILES = ("file", "cover", "pages")

PART = 5 * 1024 * 1024
"""What is longer is a stream on its way to the store."""


class Overtaken(Exception):
    """Somebody else has written a row since it was read."""


class Trip:
    """One transaction: the rows of one family that it has in hand, and what it will leave of them.

    Args:
        session: it is done in.
        kind: of rows.
        chance: where all that is random comes from.
        staged: files that were stored before it began.
    """

    def __init__(
        self, session: Session, kind: type[Document], chance: random.Random, staged: Sequence[FileObject] = ()
    ) -> None:
        self.session = session
        self.kind = kind
        self.chance = chance
        self.staged = list(staged)
        self._rows: list[Document] = []
        self._written: dict[int, Written] = {}

    @property
    def table(self) -> str:
        """The name of the family's table, and of its backend."""
        return self.kind.__tablename__

    def written(self) -> list[Written]:
        """What the transaction leaves, now that all is flushed."""
        self.session.flush()
        for row in self._rows:
            gone = instance_state(row).was_deleted
            self.write(row.id, row.version, None if gone else state(row.file, row.cover, row.pages))
        return list(self._written.values())

    def write(self, key: int, version: int, state: State | None) -> None:
        """A row is left like that."""
        self._written[key] = Written(self.table, key, version, state)

    def new(self) -> Document:
        """A new row, in the session."""
        row = self.kind()
        row.id = self.chance.getrandbits(62)
        self.session.add(row)
        self._rows.append(row)
        return row

    def take(self, many: int = 1) -> list[Document]:
        """So many rows that are not in hand yet; new ones where there are too few."""
        known = self.known()
        keys = self.chance.sample(known, min(many, len(known)))
        rows = list(self.session.scalars(select(self.kind).where(self.kind.id.in_(keys))))
        self._rows += rows
        return rows + [self.filled(self.new()) for _ in range(many - len(rows))]

    def take_raw(self) -> Any:
        """A row that is not in hand yet, as SQL has it."""
        asked = text(f"SELECT * FROM {self.table} WHERE id = :id").columns(**dict.fromkeys(FILES, JSONB))
        known = self.known()
        row = self.session.execute(asked, {"id": self.chance.choice(known)}).one_or_none() if known else None
        if row is None:
            raise Overtaken("there is no row, or it is gone by now")
        return row

    def known(self) -> list[int]:
        """The keys of the rows that are not in hand yet."""
        in_hand = self._written.keys() | {row.id for row in self._rows}
        keys = self.session.scalars(select(self.kind.id).order_by(self.kind.id))
        return [key for key in keys if key not in in_hand]

    def filled(self, row: Document) -> Document:
        """The row with new files."""
        row.file = self.file()
        row.cover = self.file() if self.chance.random() < 0.5 else None
        row.pages = [self.file() for _ in range(self.chance.randrange(4))]
        return row

    def file(self) -> FileObject:
        """A new file, mostly small."""
        return new_file(self.table, self.chance)

    def execute(self, statement: TextClause, **values: Any) -> None:
        """Write one row in SQL, or be overtaken."""
        result = self.session.execute(statement, values)
        if isinstance(result, CursorResult) and result.rowcount != 1:
            raise Overtaken("the row has another version by now")


def new_file(backend: str, chance: random.Random) -> FileObject:
    """A pending file of random bytes, which is called by their checksum."""
    draw = chance.random()
    size = PART + chance.randrange(PART // 8) if draw < 0.01 else chance.randrange(1, 64_000 if draw < 0.1 else 4_000)
    content = chance.randbytes(size)
    # What can be read once only is not tried again, and not known to be long before it has been read.
    body = _once(content) if chance.random() < 0.3 else content
    return FileObject(backend, f"{name_of(content)}.bin", content=body, storages=registry)


def name_of(content: bytes) -> str:
    """What a file of that content is called."""
    return hashlib.sha256(content).hexdigest()[:20]


def _once(content: bytes) -> Iterator[bytes]:
    step = max(1, len(content) // 3)
    for start in range(0, len(content), step):
        yield content[start : start + step]


def state(file: FileObject | None, cover: FileObject | None, pages: Sequence[FileObject]) -> State:
    """What a row with these files names."""
    return joined(name(file), name(cover), [name(page) for page in pages])


def joined(file: str, cover: str, pages: Sequence[str]) -> State:
    """What a row names that names these."""
    return f"{file}|{cover}|{','.join(pages)}"


def named(row: Any) -> tuple[str, str, list[str]]:
    """The names of the files of a row that SQL has read."""
    return _raw_name(row.file), _raw_name(row.cover), [_raw_name(page) for page in row.pages or ()]


def name(file: FileObject | None) -> str:
    return "" if file is None else file.filename.partition(".")[0]


def _raw_name(record: dict[str, Any] | None) -> str:
    return "" if record is None else str(record["filename"]).partition(".")[0]
