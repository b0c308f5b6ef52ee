"""Local files: how they are called while they are written, and how they get to their names and onto disk."""

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

is_staged = re.compile(r"(?:.*/)?\.lading-[0-9a-f]{16}", re.DOTALL).fullmatch
"""Whether a path is that of a file that is being written, or was when its process was killed."""


def staged_beside(path: str) -> str:
    """A path in the same directory for a file that is renamed or linked when it is complete."""
    directory, slash, _ = path.rpartition("/")
    return f"{directory}{slash}.lading-{secrets.token_hex(8)}"


is_left_by_obstore = re.compile(r"(?:.*/)?(?:\.lading-[0-9a-f]{16}|[^/]+#\d+)", re.DOTALL).fullmatch
"""Likewise where obstore writes: it puts `#1` behind the name of what it writes, and neither lists nor stores such."""


def left_behind(directory: str, is_left: Callable[[str], object]) -> Iterator[tuple[str, os.stat_result]]:
    """Files below a directory that are being written, or were when their process was killed, with what is known."""
    for place, _, names in os.walk(directory):
        for name in filter(is_left, names):
            path = os.path.join(place, name)
            try:
                yield path, os.stat(path, follow_symlinks=False)
            except FileNotFoundError:  # it has got its name
                pass


def write(path: str, content: bytes | bytearray | memoryview, *, create: bool) -> str:
    """Write a whole file aside, and give it its name when it is complete.

    With `create` it is linked, which fails where the name is taken, else renamed: what obstore does, in less time.

    Returns:
        The etag that obstore's `head` gives: inode, modification time in µs and size, in hexadecimal.

    Raises:
        FileExistsError: `create`, and something has that name.
        OSError: it could not be written; nothing is left of it.
    """
    staged = staged_beside(path)
    try:
        descriptor = os.open(staged, _NEW, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(staged, _NEW, 0o666)
    try:
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        (os.link if create else os.replace)(staged, path)
    except BaseException:
        os.unlink(staged)
        raise
    if create:
        os.unlink(staged)
    return f'"{status.st_ino:x}-{status.st_mtime_ns // 1000:x}-{status.st_size:x}"'


def copy(source: str, target: str, *, create: bool) -> None:
    """Copy the bytes of a file aside, and give the copy its name when it is complete, as `write` does.

    The copy is as old as it is: a link would have the age of its original, and look like an orphan before its row is
    committed.

    Raises:
        FileExistsError: `create`, and something has that name.
        OSError: it could not be copied; nothing is left of it.
    """
    staged = staged_beside(target)
    try:
        try:
            shutil.copyfile(source, staged)
        except FileNotFoundError:
            os.stat(source)  # that may be what is missing
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(source, staged)
        (os.link if create else os.replace)(staged, target)
    except BaseException:
        with suppress(OSError):  # it may not have come to be
            os.unlink(staged)
        raise
    if create:
        os.unlink(staged)


_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def local_place(directory: str) -> tuple[str, str]:
    """A directory as the place of a backend, by whichever links one comes there."""
    return "file", os.path.realpath(directory).replace(os.sep, "/").strip("/")


def sync(path: Path, root: Path) -> None:
    """See to it that a file or directory is on disk, and so are the directories from `root` that lead to it."""
    for place in (path, *path.parents):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if place == root:
            return
