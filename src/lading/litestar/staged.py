"""What a request has stored and no row has taken: removed when the request is over."""

import logging
from typing import Any, cast

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from lading.errors import LadingError
from lading.file import FileObject, claim_of, is_recognised, remember
from lading.worlds import asyncio_world

log = logging.getLogger("lading")

_KEY = "lading.staged"


class Staged:
    """The files that one request has stored as they arrived, and those whose ids it has brought.

    They are nobody's until a flush gives them to a row, and again when its transaction has been rolled back. Where the
    answer to COMMIT was lost they stay: nobody knows whether a row names them.

    Attributes:
        broken_off: whether the request has left its middleware by an exception, so that its transaction may still end.
    """

    def __init__(self) -> None:
        self.broken_off = False
        self._files: list[FileObject] = []

    @classmethod
    def of(cls, scope: Scope) -> "Staged":
        """Of a request that is being answered behind `removing`."""
        staged: Staged = cast("dict[str, Any]", scope)[_KEY]  # ASGI leaves room for others' keys
        return staged

    def add(self, file: FileObject) -> None:
        """A file was stored, or may be: a direct upload is when a flush or the handler does it."""
        if file.is_stored:
            remember(file)
        self._files.append(file)

    async def remove(self) -> None:
        """Delete what is nobody's, to the end even if the request is cancelled meanwhile.

        An object that cannot be deleted stays until a sweep, and is logged: whoever waits for an answer cannot help it.
        One stays that may be of another request, which has stored the same under the same path.
        """
        free = [file for file in self._files if file.is_stored and claim_of(file) == "free"]
        left = [file for file in free if not is_recognised(file)]
        self._files = [file for file in self._files if file not in left]
        if left:
            await asyncio_world.finish(asyncio_world.each(_remove, left, left[0].storages.concurrency))


async def _remove(file: FileObject) -> None:
    try:
        await file.delete_async()
    except LadingError as error:
        log.warning(
            "what a request had stored stays until the next sweep: %s",
            error,
            extra={"backend": file.record.backend, "path": file.path},
        )


def removing(app: ASGIApp) -> ASGIApp:
    """A middleware that removes what is left over when all has been sent and background tasks are done.

    It goes before all others, so that whatever ends a transaction does so within; several are as good as one.
    """

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        known = cast("dict[str, Any]", scope)
        if known["type"] != "http" or _KEY in known:
            await app(scope, receive, send)
            return
        staged = known[_KEY] = Staged()
        try:
            await app(scope, receive, send)
        except BaseException:
            staged.broken_off = True
            raise
        finally:
            await staged.remove()

    return handle


async def look_again(message: Message, scope: Scope) -> None:
    """A hook that removes what is left over when the last of the answer to an exception is sent.

    Litestar makes that answer outside of all middleware, and whoever ends transactions as answers are sent does so only
    then: until now the files were those of rows that had been flushed.
    """
    if message["type"] == "http.response.body" and not message.get("more_body"):
        staged = cast("dict[str, Any]", scope).get(_KEY)
        if staged is not None and staged.broken_off:
            await staged.remove()
