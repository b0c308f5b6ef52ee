"""Putting and getting one file, sha256 included, against obstore with the same bytes under a fresh name, without it."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TypeAlias

import obstore

from benchmarks import places
from benchmarks.harness import Result, compare
from lading import FileObject
from lading.backends.obstore import ObstoreBackend
from lading.paths import token

KIB, MIB = 2**10, 2**20

Places: TypeAlias = Callable[[], AbstractContextManager[ObstoreBackend]]


def results(*, quick: bool) -> Iterator[Result]:
    stores: dict[str, Places] = {"memory": places.memory, "local": places.local}
    if places.TMPFS.is_dir():
        stores["tmpfs"] = places.tmpfs
    stores["s3"] = places.s3
    for name, place in stores.items():
        rounds = {KIB: 200, MIB: 50, 64 * MIB: 5} if name == "s3" else {KIB: 3000, MIB: 200, 64 * MIB: 11}
        for size, times in rounds.items():
            with place() as backend:
                times = max(2, times // 20) if quick else times
                yield from _of_size(name, backend, size, times)
    with places.local(fsync=True) as backend:
        for size, times in ((KIB, 200), (64 * MIB, 11)):
            yield _synced(backend, size, max(2, times // 20) if quick else times)
    with places.local() as backend:
        yield _at_once(backend, 64 * MIB, 2 if quick else 11)


def _of_size(name: str, backend: ObstoreBackend, size: int, rounds: int) -> Iterator[Result]:
    store, target = backend.store, {KIB: 1.5, 64 * MIB: 1.15}.get(size) if name == "local" else None
    line = partial(compare, rounds=rounds, target=target)
    contents = {"PDF": places.pdf(size), "random": places.noise(size)} if size == KIB else {"": places.noise(size)}
    for kind, content in contents.items():
        what = f"{_size(size)} {kind}".rstrip()

        def put(_: object, content: bytes = content) -> str:
            return FileObject(backend, "a.bin", content=content).save().path

        def raw_put(_: object, content: bytes = content) -> str:
            obstore.put(store, path := f"{token()}.bin", content)
            return path

        async def put_async(_: object, content: bytes = content) -> str:
            return (await FileObject(backend, "a.bin", content=content).save_async()).path

        async def raw_put_async(_: object, content: bytes = content) -> str:
            await obstore.put_async(store, path := f"{token()}.bin", content)
            return path

        delete = partial(obstore.delete, store)
        yield line(f"put {what}, {name}", put, raw_put, clean=delete)
        yield line(f"put {what}, {name}, async", put_async, raw_put_async, clean=delete)
    yield from _get(name, backend, size, line)


def _get(name: str, backend: ObstoreBackend, size: int, line: Callable[..., Result]) -> Iterator[Result]:
    store, file = backend.store, FileObject(backend, "a.bin", content=places.noise(size)).save()

    def get(_: object) -> None:
        file.get_content()

    def raw_get(_: object) -> None:
        obstore.get(store, file.path).bytes()

    async def get_async(_: object) -> None:
        await file.get_content_async()

    async def raw_get_async(_: object) -> None:
        await (await obstore.get_async(store, file.path)).bytes_async()

    yield line(f"get {_size(size)}, {name}", get, raw_get)
    yield line(f"get {_size(size)}, {name}, async", get_async, raw_get_async)


def _synced(backend: ObstoreBackend, size: int, rounds: int) -> Result:
    """With fsync on both sides, what a disk takes that has to keep it."""
    store, root, content = backend.store, Path(backend.store.prefix), places.noise(size)

    def put(_: object) -> str:
        return FileObject(backend, "a.bin", content=content).save().path

    def raw_put(_: object) -> str:
        obstore.put(store, path := f"{token()}.bin", content)
        _sync(root / path)
        _sync(root)
        return path

    name = f"put {_size(size)}, local, fsync on both sides"
    return compare(name, put, raw_put, rounds=rounds, clean=partial(obstore.delete, store))


def _at_once(backend: ObstoreBackend, size: int, rounds: int) -> Result:
    """Against obstore in one thread and sha256 in another: nothing that makes a checksum can be faster."""
    store, content = backend.store, places.noise(size)

    def put(_: object) -> str:
        return FileObject(backend, "a.bin", content=content).save().path

    def raw_put(_: object) -> str:
        hashing = Thread(target=hashlib.sha256, args=(content,))
        hashing.start()
        obstore.put(store, path := f"{token()}.bin", content)
        hashing.join()
        return path

    name = f"put {_size(size)}, local, against put and sha256 at once"
    return compare(name, put, raw_put, rounds=rounds, clean=partial(obstore.delete, store))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _size(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"
