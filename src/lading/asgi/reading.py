"""Objects on their way from a store to a client."""

from collections.abc import AsyncGenerator

from lading.asgi.reply import Reply, Scope, headers_of
from lading.backends.protocols import StorageBackend
from lading.errors import IntegrityFailure
from lading.ops.retry import Retrying
from lading.serving import Answer, Representation, respond
from lading.worlds import asyncio_world


async def reading(scope: Scope, backend: StorageBackend, path: str, what: Representation) -> Reply:
    """What is answered to a request for an object.

    Raises:
        ObjectNotFound: there is none; also where it would not be sent, since an answer about one says that it exists.
        StoreError: the store failed.
    """
    answer = respond(scope["method"], headers_of(scope), what)
    if not answer.parts:
        await Retrying(backend, asyncio_world).head(path)
        return Reply(answer.status, answer.headers, answer.after)
    pieces = _pieces(answer, backend, path)
    first = await anext(pieces)
    length = sum(len(part.before) + part.stop - part.start for part in answer.parts) + len(answer.after)
    return Reply(answer.status, answer.headers, first, pieces, length=length)


async def _pieces(answer: Answer, backend: StorageBackend, path: str) -> AsyncGenerator[bytes, None]:
    driver = Retrying(backend, asyncio_world)
    for before, start, stop in answer.parts:
        left = stop - start
        chunks = driver.read(path, start, stop)
        try:
            async for chunk in chunks:
                left -= len(chunk)
                yield before + chunk if before else chunk
                before = b""
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()
        if left:
            raise IntegrityFailure(
                f"the object at {path!r} in {backend.key!r} is {left} bytes shorter than its record says",
                backend=backend.key,
                path=path,
                expected=stop,
                actual=stop - left,
            )
    if answer.after:
        yield answer.after
