"""What must and must not type-check about `FileObject`; mypy and pyright read this, nothing runs it.

A line that must not carries both checkers' ignores, which they report as unused the day that it does.
"""

import io
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, assert_type

from litestar.datastructures import UploadFile

from lading import FileObject, Storages, sign_all, sign_all_async
from lading.backends.fsspec import FSSpecBackend
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import StorageBackend
from lading.reader import AsyncReader
from lading.rules import Rule, max_size
from lading.source import Content, Progress


class Draft(FileObject):
    """Verbs that give the file back give back its class."""


def contents(
    spooled: SpooledTemporaryFile[bytes], upload: UploadFile, chunks: Iterator[bytes], coming: AsyncIterator[bytes]
) -> list[Content]:
    return [
        b"x",
        bytearray(b"x"),
        memoryview(b"x"),
        Path("a"),
        io.BytesIO(b"x"),
        Path("a").open("rb"),
        spooled,
        upload,
        [b"x"],
        chunks,
        coming,
    ]


def constructor(upload: UploadFile, text: io.TextIOWrapper, backend: StorageBackend, storages: Storages) -> None:
    FileObject("it", "a.pdf", content_type="application/pdf", content=b"x")
    FileObject(backend=backend, source_path=Path("a"), metadata={"a": 1}, storages=storages)
    FileObject(backend="it", path="in/a.pdf", size=5, checksum="sha256:0")
    assert_type(FileObject.from_upload(upload, "it", metadata={}), FileObject)
    assert_type(Draft.from_upload(upload), Draft)
    assert_type(FileObject.from_dict({"backend": "it"}), FileObject)

    FileObject(content="text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    FileObject(content=text)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    FileObject(content=[1, 2])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    FileObject(size="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    FileObject(metadata=["a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    FileObject("it", unknown=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    FileObject.from_upload(b"x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def attributes(file: FileObject) -> None:
    assert_type(file.backend, StorageBackend)
    assert_type(file.path, str)
    assert_type(file.filename, str)
    assert_type(file.content_type, str | None)
    assert_type(file.size, int | None)
    assert_type(file.last_modified, float | None)
    assert_type(file.checksum, str | None)
    assert_type(file.metadata, Mapping[str, Any])
    assert_type(file.to_dict(), dict[str, Any])
    assert_type(file.has_pending_data, bool)

    file.path = "b"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    file.size + 1  # type: ignore[operator]  # pyright: ignore[reportOptionalOperand, reportUnusedExpression]
    file.metadata["a"] = 1  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    file.update_metadata("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def verbs(file: FileObject, draft: Draft, told: Progress) -> None:
    assert_type(file.save(b"x", overwrite=True, on_progress=told), FileObject)
    assert_type(draft.save(), Draft)
    assert_type(file.get_content(), bytes)
    assert_type(file.read_range(0, 5), bytes)
    assert_type(file.iter_bytes(5), Iterator[bytes])
    assert_type(file.open(), io.BufferedReader)
    assert_type(file.exists(), bool)
    assert_type(file.copy_to("it", to_filename="b"), FileObject)
    assert_type(file.sign(expires_in=5, for_upload=True), str)
    assert_type(file.sign(filename="a", disposition="inline", content_type="text/plain"), str)
    assert_type(sign_all([file]), Sequence[str])
    assert_type(sign_all([file, None], disposition="attachment"), Sequence[str | None])
    file.save(on_progress=lambda done, total: done)
    file.verify()
    file.delete()

    file.save(on_progress=lambda done: None)  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType]
    file.sign(5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    file.sign(disposition="form-data")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    file.copy_to()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    file.get_content() + "x"  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]


async def async_verbs(file: FileObject, draft: Draft) -> None:
    assert_type(await file.save_async(b"x"), FileObject)
    assert_type(await draft.save_async(), Draft)
    assert_type(await file.get_content_async(), bytes)
    assert_type(await file.read_range_async(0), bytes)
    assert_type(file.iter_bytes_async(), AsyncIterator[bytes])
    assert_type(await file.open_async(), AsyncReader)
    assert_type(await file.exists_async(), bool)
    assert_type(await file.copy_to_async("it"), FileObject)
    assert_type(await file.sign_async(), str)
    assert_type(await sign_all_async(each for each in (file, draft)), Sequence[str])
    assert_type(await sign_all_async((file, None)), Sequence[str | None])
    await file.verify_async()
    await file.delete_async()
    async with await file.open_async() as reader:
        assert_type(reader, AsyncReader)
        async for chunk in reader:
            assert_type(chunk, bytes)

    await file.save()  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    file.delete_async()  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    list(file.iter_bytes_async())  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def backends(storages: Storages) -> list[StorageBackend]:
    rules: list[Rule] = [max_size(5), lambda candidate: None]
    storages.register_backend("memory://", key="scratch")
    assert_type(storages.get_backend("scratch"), StorageBackend)

    storages.register_backend(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ObstoreBackend("it", "memory://", trust="nobody")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return [ObstoreBackend(key="it", fs="memory://", rules=rules), FSSpecBackend(key="other", fs="memory://")]
