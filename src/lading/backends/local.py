"""Local files: how they are called while they are written, and how they get onto disk."""

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
