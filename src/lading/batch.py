"""What is done with many files at once."""

from collections.abc import Iterable, Sequence
from typing import overload

from lading.file import FileObject
from lading.record import Disposition
from lading.worlds import asyncio_world

_AT_ONCE = 8
"""obstore hands each URL to a thread and back: of so many at once three take the time of one."""


@overload
def sign_all(
    files: Iterable[FileObject], *, expires_in: int = 3600, disposition: Disposition | None = None
) -> Sequence[str]: ...
@overload
def sign_all(
    files: Iterable[FileObject | None], *, expires_in: int = 3600, disposition: Disposition | None = None
) -> Sequence[str | None]: ...
def sign_all(
    files: Iterable[FileObject | None], *, expires_in: int = 3600, disposition: Disposition | None = None
) -> Sequence[str | None]:
    """The URLs of the files of a page, in their order, and `None` for what is none; no store is asked for anything.

    Arguments and errors are those of `FileObject.sign`; where one file cannot be signed, none is.
    """
    return [None if file is None else file.sign(expires_in=expires_in, disposition=disposition) for file in files]


@overload
async def sign_all_async(
    files: Iterable[FileObject], *, expires_in: int = 3600, disposition: Disposition | None = None
) -> Sequence[str]: ...
@overload
async def sign_all_async(
    files: Iterable[FileObject | None], *, expires_in: int = 3600, disposition: Disposition | None = None
) -> Sequence[str | None]: ...
async def sign_all_async(
    files: Iterable[FileObject | None], *, expires_in: int = 3600, disposition: Disposition | None = None
) -> Sequence[str | None]:
    """The async twin of `sign_all`."""

    async def sign(file: FileObject | None) -> str | None:
        return None if file is None else await file.sign_async(expires_in=expires_in, disposition=disposition)

    return await asyncio_world.each(sign, list(files), _AT_ONCE)
