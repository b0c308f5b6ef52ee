"""Forms whose files go to the store as they arrive."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Any

from litestar.datastructures import UploadFile
from multipart import (  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]  # it has no types
    MultipartSegment,
)

from lading.errors import MalformedBody, TooLarge
from lading.file import FileObject, store
from lading.litestar.fields import Fields, FileField
from lading.litestar.parts import Parts
from lading.litestar.staged import Staged
from lading.policy import Policy
from lading.rules import KiB, MiB
from lading.worlds import asyncio_world

TEXT = 64 * KiB
"""Bytes of one text field."""

TEXTS = MiB
"""Bytes of all text fields of a form."""

FILES = 100
"""Files of a form, also empty ones: each of them costs a request to the store."""


class Form:
    """One form on its way in, in one pass and in the task of its request.

    Args:
        parts: of the body.
        fields: of the handler.
        staged: is told of each file as soon as it is stored.
        spool: bytes that the files may have together that go to no column, and so into temporary files; `None` for any
            number.
    """

    def __init__(self, parts: Parts, fields: Fields, staged: Staged, spool: int | None) -> None:
        self._parts = parts
        self._fields = fields
        self._staged = staged
        self._spool = spool
        self._kept = 0
        self._spooled: list[UploadFile] = []
        self._text = TEXTS
        self._files = Counter[str]()
        self._count = 0

    async def read(self) -> dict[str, Any]:
        """The values as Litestar's own parser gives them, but that files of columns are stored `FileObject`s.

        Raises:
            MalformedBody: it is no well-formed form, or has two files for one.
            TooLarge: there are too many parts or files, or too much text.
            Refused, StoreError: see `lading.ops.save.save`.
        """
        values: defaultdict[str, list[Any]] = defaultdict(list)
        try:
            while (part := await self._parts.next()) is not None:
                values[part.name or ""].append(await self._value(part))
        except BaseException:
            for upload in self._spooled:
                await upload.close()
            raise
        return {name: given if len(given) > 1 else given[0] for name, given in values.items()}

    async def _value(self, part: MultipartSegment) -> Any:
        field = self._fields.by_name.get(part.name or "", self._fields.whole)
        if part.filename is not None and field is not None and field.streamed:
            return await self._store(part, field)
        if part.filename:
            return await self._keep(part, part.filename)
        text = await self._parts.text(part, min(TEXT, self._text))
        self._text -= part.bytes_received
        return text

    async def _store(self, part: MultipartSegment, field: FileField) -> FileObject | str:
        """Store a file; an input that was left empty has no name and no bytes (HTML, 4.10.21.4), and is `""`."""
        first = await self._parts.piece()
        if not first and not part.filename:
            return ""
        self._check_count(part.filename or "")
        self._files[field.attribute] += 1
        if self._files[field.attribute] > 1 and not field.many:
            raise MalformedBody(f"the field {part.name!r:.80} takes one file, and several were sent")
        assert field.policy is not None
        content = self._parts.rest(first) if first else _nothing()
        file = await stored(field.policy, part.filename or "", part.content_type, content)
        self._staged.add(file)
        return file

    def _check_count(self, filename: str) -> None:
        self._count += 1
        if self._count > FILES:
            message = f"the form has too many files: it may have {FILES}"
            raise TooLarge(message, filename=filename, limit=FILES, actual=self._count)

    async def _keep(self, part: MultipartSegment, filename: str) -> UploadFile:
        """Spool a file that goes to no column, as Litestar does."""
        self._check_count(filename)
        upload = UploadFile(part.content_type or "text/plain", filename, headers=dict(part.headerlist))
        self._spooled.append(upload)
        async for piece in self._parts.rest():
            self._kept += len(piece)
            if self._spool is not None and self._kept > self._spool:
                message = f"{filename!r:.80} is too large for this form, whose files may have {self._spool} bytes"
                raise TooLarge(message, filename=filename, limit=self._spool, actual=self._kept)
            await upload.write(piece)
        await upload.seek(0)
        return upload


async def stored(policy: Policy, filename: str, claim: str | None, content: AsyncIterator[bytes]) -> FileObject:
    """A file of a request, stored by the rules of its column as it arrives; nothing is left of one that fails."""
    file = FileObject(policy.place, filename, content_type=claim, content=content, storages=policy.storages)
    await store(file, asyncio_world, policy)
    return file


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
