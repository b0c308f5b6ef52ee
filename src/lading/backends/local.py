"""Local files: how they are called while they are written, and how they get to their names and onto disk."""

import os
import re
import secrets
from pathlib import Path

is_staged = re.compile(r"(?:.*/)?\.lading-[0-9a-f]{16}", re.DOTALL).fullmatch
"""Whether a path is that of a file that is being written, or was when its process was killed."""


def staged_beside(path: str) -> str:
    """A path in the same directory for a file that is renamed or linked when it is complete."""
    directory, slash, _ = path.rpartition("/")
    return f"{directory}{slash}.lading-{secrets.token_hex(8)}"


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


_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


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
