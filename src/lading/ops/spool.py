"""`Spool`: more records than fit into memory, in order: an external merge sort."""

import heapq
import marshal
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import itemgetter
from types import TracebackType
from typing import IO, Any, Generic, Self, TypeVar

Record = TypeVar("Record", bound=tuple[Any, ...])

_path = itemgetter(0)

RUN = 50_000
"""Records that are sorted in memory; of the names and sizes of files, some 25 MB."""

CHUNK = 250
"""Records that are read from a file at once; as many of each file are in memory while they are merged."""

FAN_IN = 50
"""Files of one level that are merged into one of the next, so that any number of records needs few open files."""


class Spool(Generic[Record]):
    """Takes records in any order and gives them back in theirs, in constant memory.

    A record is a tuple of plain values: a path, and whatever of `str`, `int`, `float`, `bool` and `None`. Paths are
    ordered by code points, which is the order of their UTF-8 bytes; records of one path stay as they came. Up to one
    run of records never touches the disk; more go to files without names in the directory for temporary files
    (`TMPDIR`), which vanish with the process.

    Args:
        run: records that are sorted in memory, from 1.

    Raises:
        OSError: the directory for temporary files is full.
    """

    def __init__(self, run: int = RUN) -> None:
        self._run = run
        self._unsorted: list[Record] = []
        self._levels: list[list[IO[bytes]]] = []
        self._count = 0

    def add(self, record: Record) -> None:
        """Take a record."""
        self._unsorted.append(record)
        self._count += 1
        if len(self._unsorted) >= self._run:
            self._unsorted.sort(key=_path)
            self._store(self._unsorted, 0)
            self._unsorted.clear()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Record]:
        """All records in order; one iteration at a time, and none while records are added."""
        self._unsorted.sort(key=_path)
        # The oldest first: where levels meet, a higher one has the older records.
        runs = [_read(file) for level in reversed(self._levels) for file in level]
        return heapq.merge(*runs, self._unsorted, key=_path) if runs else iter(self._unsorted)

    def _store(self, records: Iterable[Record], level: int) -> None:
        if level == len(self._levels):
            self._levels.append([])
        files = self._levels[level]
        files.append(_written(records))
        if len(files) == FAN_IN:
            self._store(heapq.merge(*map(_read, files), key=_path), level + 1)
            _close(files)

    def close(self) -> None:
        """Forget all records, and leave nothing on disk."""
        self._unsorted.clear()
        self._count = 0
        for files in self._levels:
            _close(files)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _written(records: Iterable[Any]) -> IO[bytes]:
    """A file of these records, in chunks, the last of which is empty.

    `marshal` takes any text, also the names of files that are no UTF-8.
    """
    file = tempfile.TemporaryFile(prefix="lading-")  # noqa: SIM115  # whoever asked for it closes it
    try:
        waiting = iter(records)
        while True:
            chunk = list(islice(waiting, CHUNK))
            marshal.dump(chunk, file, 2)  # 2: without looking for equal objects, which would cost memory
            if not chunk:
                break
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def _read(file: IO[bytes]) -> Iterator[Any]:
    file.seek(0)
    # An end without an empty chunk raises: to lack records without a word would make orphans of what rows name.
    while chunk := marshal.load(file):  # noqa: S302  # nobody else has this file: it has no name
        yield from chunk


def _close(files: list[IO[bytes]]) -> None:
    for file in files:
        file.close()
    files.clear()
