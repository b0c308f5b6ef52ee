"""The spool: any number of records in order, in constant memory, and nothing left behind."""

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lading.ops import spool
from lading.ops.spool import Spool

ODD = [
    "",
    "a",
    "a/b",
    "a!b",
    "a-b",
    "ab",
    "B",
    "\x00",
    "é",
    "e\u0301",
    "\uffee",
    "\U0001f600",
    "\udcff",
    "日本",
    "~",
    " ",
]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for temporary files that one can look into."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


class TestOrder:
    @settings(max_examples=50)
    @given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 2**40))), st.integers(1, 7))
    def test_records_come_in_order(self, records: list[tuple[str, int]], run: int) -> None:
        """Whatever came is given back by path, and what has one path in the order in which it came."""
        with Spool[tuple[str, int]](run) as spooled:
            for record in records:
                spooled.add(record)
            assert len(spooled) == len(records)
            assert list(spooled) == list(spooled) == sorted(records, key=lambda record: record[0])

    def test_the_order_is_that_of_the_bytes(self) -> None:
        """Paths are ordered by their UTF-8, in memory and on disk, also names of files that are none."""
        expected = sorted(ODD, key=lambda path: path.encode(errors="surrogatepass"))
        for run in (1, 3, 1000):
            with Spool[tuple[str]](run) as spooled:
                for path in random.Random(run).sample(ODD, len(ODD)):
                    spooled.add((path,))
                assert [path for (path,) in spooled] == expected

    def test_values_survive_the_disk(self) -> None:
        """What was in a record is in it afterwards, to the bit; records of one path need not be comparable."""
        records: list[tuple[Any, ...]] = [("a", 2**63, 1.1e9 / 3, None, True), ("a", "text", None, -1, False)]
        with Spool[tuple[Any, ...]](1) as spooled:
            for record in records:
                spooled.add(record)
            assert list(spooled) == records

    def test_many_files_become_few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Files are merged as they grow many, over several levels, and the order is kept."""
        monkeypatch.setattr(spool, "FAN_IN", 3)
        monkeypatch.setattr(spool, "CHUNK", 2)
        before = open_files()
        with Spool[tuple[str, int]](2) as spooled:
            for number in range(200):
                spooled.add((f"{number * 37 % 10}", number))
            assert open_files() - before <= 2 * 5  # log3 of 100 files
            assert list(spooled) == sorted((f"{number * 37 % 10}", number) for number in range(200))


class TestTraces:
    def test_few_records_never_touch_the_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What fits into memory makes no file."""
        monkeypatch.setattr(tempfile, "TemporaryFile", None)
        with Spool[tuple[str]](10) as spooled:
            for _ in range(9):
                spooled.add(("a",))
            assert len(list(spooled)) == 9

    def test_nothing_is_left(self, temporary: Path) -> None:
        """Files have no names even while they are there, and are closed at the end, also after an error."""
        before = open_files()
        with pytest.raises(RuntimeError), Spool[tuple[str]](1) as spooled:
            for number in range(120):
                spooled.add((str(number),))
            assert open_files() > before
            assert os.listdir(temporary) == []
            raise RuntimeError
        assert open_files() == before
        assert list(spooled) == []

    def test_a_file_that_ends_early_is_an_error(self) -> None:
        """Records that are lost on disk raise: without them a sweep would take what rows name for orphans."""
        with Spool[tuple[str]](1) as spooled:
            for path in "abc":
                spooled.add((path,))
            file = spooled._levels[0][1]
            file.truncate(file.seek(0, os.SEEK_END) - 5)
            with pytest.raises(EOFError):
                list(spooled)

    def test_a_full_disk_is_an_error(self) -> None:
        """When the temporary files may not grow, the spool raises and closes them."""
        script = (
            "import resource, signal, sys\n"
            "from lading.ops.spool import Spool\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
            "with Spool(1000) as spool:\n"
            "    try:\n"
            "        for number in range(5000): spool.add((f'{number:030}',))\n"
            "    except OSError: sys.exit(7)\n"
        )
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 7

    def test_memory_is_constant(self) -> None:
        """Four times as many records take no more memory."""
        script = (
            "import sys\n"
            "from lading.ops.spool import Spool\n"
            "with Spool(2000) as spool:\n"
            "    for number in range(int(sys.argv[1])): spool.add((f'{number * 7919 % 1000003:044}', number, None))\n"
            "    assert sum(1 for _ in spool) == int(sys.argv[1])\n"
            "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])\n"
        )
        small, large = (
            int(subprocess.run([sys.executable, "-c", script, count], check=True, capture_output=True).stdout)
            for count in ("50000", "200000")
        )
        assert large < small + 8 * 1024
