"""Tests of the contract of backends: one that breaks it in one way is found by the test that is about that."""

import re
from pathlib import Path

from tests.testing.test_plugin import code_of, pytest_in

BROKEN = """
class Made(CopyContract):
    Driver = DictDriver

    @pytest.fixture
    def backend(self):
        backend = DictBackend("mine")
        backend._driver = self.Driver("mine")
        return backend


class TestOverwritesUnasked(Made):
    class Driver(DictDriver):
        async def put(self, path, body, *, size, overwrite, attributes):
            return await super().put(path, body, size=size, overwrite=True, attributes=attributes)


class TestKeepsWhatCameOfAStream(Made):
    class Driver(DictDriver):
        async def put(self, path, body, *, size, overwrite, attributes):
            if isinstance(body, bytes | bytearray | memoryview):
                return await super().put(path, body, size=size, overwrite=overwrite, attributes=attributes)
            content = b""
            try:
                async for chunk in body:
                    content += chunk
            finally:
                await super().put(path, content, size=size, overwrite=overwrite, attributes=attributes)


class TestListsNamesakes(Made):
    class Driver(DictDriver):
        async def list(self, prefix=""):
            for path in list(self._objects):
                if path.startswith(prefix):
                    yield await self.head(path)


class TestLetsPathsEscape(Made):
    class Driver(DictDriver):
        async def delete(self, paths):
            for path in paths:
                self._objects.pop(path, None)


class TestMissesTheMissing(Made):
    class Driver(DictDriver):
        async def delete(self, paths):
            for path in paths:
                del self._objects[guard(path)]


class TestCountsFromTheEnd(Made):
    class Driver(DictDriver):
        async def read(self, path, start=0, stop=None):
            yield self._find(path)[0][start:stop]


class TestMoves(Made):
    class Driver(DictDriver):
        async def copy(self, source, target, *, overwrite=False):
            await super().copy(source, target, overwrite=overwrite)
            await self.delete([source])


class TestForeignErrors(Made):
    class Driver(DictDriver):
        async def get(self, path):
            return self._objects[guard(path)][0]


class TestSuspends(Made):
    class Driver(DictDriver):
        async def get(self, path):
            await asyncio.sleep(0)
            return await super().get(path)


class TestCanMoreThanItSays(BackendContract):
    backend = Made.backend
    Driver = DictDriver


class TestCanLessThanItSays(StagingContract):
    backend = Made.backend
    Driver = DictDriver


class Keeping(DictDriver):
    def __init__(self, key):
        super().__init__(key)
        self._attributes = {}

    async def put(self, path, body, *, size, overwrite, attributes):
        stored = await super().put(path, body, size=size, overwrite=overwrite, attributes=attributes)
        self._attributes[path] = attributes
        return stored

    async def copy(self, source, target, *, overwrite=False):
        await super().copy(source, target, overwrite=overwrite)
        self._attributes[target] = self._attributes[source]

    async def attributes(self, path):
        self._find(path)
        return self._attributes[path]


class Describes(Made, DescribeContract):
    Driver = Keeping


class TestDescribes(Describes):
    pass


class TestCopiesWithoutThem(Describes):
    class Driver(Keeping):
        async def copy(self, source, target, *, overwrite=False):
            await super().copy(source, target, overwrite=overwrite)
            self._attributes[target] = Attributes()


class TestKeepsTheOldOnes(Describes):
    class Driver(Keeping):
        async def put(self, path, body, *, size, overwrite, attributes):
            attributes = self._attributes.get(path, attributes)
            return await super().put(path, body, size=size, overwrite=overwrite, attributes=attributes)


class TestDescribesTheMissing(Describes):
    class Driver(Keeping):
        async def attributes(self, path):
            return self._attributes.get(path, Attributes())


class Ordered(DictDriver):
    async def list_in_order(self, prefix="", *, after=""):
        for info in sorted([info async for info in self.list(prefix)], key=lambda info: info.path):
            if info.path > after:
                yield info


class Sorts(Made, OrderContract):
    Driver = Ordered


class TestSorts(Sorts):
    pass


class TestSortsNot(Sorts):
    class Driver(Ordered):
        async def list_in_order(self, prefix="", *, after=""):
            async for info in self.list(prefix):
                if info.path > after:
                    yield info


class TestBeginsWithWhatWasBefore(Sorts):
    class Driver(Ordered):
        async def list_in_order(self, prefix="", *, after=""):
            for info in sorted([info async for info in self.list(prefix)], key=lambda info: info.path):
                if info.path >= after:
                    yield info
"""

FOUND = {
    "TestOverwritesUnasked": "test_create_only_refuses_what_exists",
    "TestKeepsWhatCameOfAStream": "test_a_failing_stream_leaves_nothing",
    "TestListsNamesakes": "test_list_by_whole_segments",
    "TestLetsPathsEscape": "test_no_path_escapes",
    "TestMissesTheMissing": "test_delete",
    "TestCountsFromTheEnd": "test_a_negative_start_is_a_mistake",
    "TestMoves": "test_copy",
    "TestForeignErrors": "test_what_is_missing",
    "TestSuspends": "test_whole_content_comes_back",
    "TestCanMoreThanItSays": "test_what_it_can_is_asked_for",
    "TestCanLessThanItSays": "test_what_it_can_is_asked_for",
    "TestCopiesWithoutThem": "test_what_travels",
    "TestKeepsTheOldOnes": "test_what_nobody_gave",
    "TestDescribesTheMissing": "test_what_is_not_there",
    "TestSortsNot": "test_the_order",
    "TestBeginsWithWhatWasBefore": "test_the_order",
}


def test_what_breaks_it_is_found(tmp_path: Path) -> None:
    """Each broken backend fails the test that is about its fault, and the good ones fail none."""
    source = "\n".join(
        [
            "import asyncio",
            "from lading.testing.backends import BackendContract",
            "from lading.testing.capabilities import DescribeContract, OrderContract, StagingContract",
            code_of("writing-a-backend"),
            BROKEN,
        ]
    )
    run = pytest_in(tmp_path, source, "-rfE", "--tb=no", "-k", " or ".join(FOUND.values()))
    failed: dict[str, set[str]] = {}
    for name, test in re.findall(r"^(?:FAILED|ERROR) test_it\.py::(\w+)::(\w+)", run.stdout, re.MULTILINE):
        failed.setdefault(name, set()).add(test)
    assert {name: FOUND.get(name) in tests for name, tests in failed.items()} == dict.fromkeys(FOUND, True), run.stdout
