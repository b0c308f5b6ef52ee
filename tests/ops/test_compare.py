"""A listing held against rows: each difference found, none invented, and no merge of what is not in order."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.ops.compare import Difference, Listed, Named, OutOfOrder, compare, fault, is_below

PATHS = st.sampled_from(["a", "a/b", "a!", "ab", "b", "é", "\U0001f600", "\uffee"])


def lies(path: str, size: int = 1, etag: str | None = None, *, staged: bool = False) -> Listed:
    return (path, size, 0.0, etag, staged)


def names(path: str, size: int | None = 1, etag: str | None = None, where: int = 0) -> Named:
    return (path, size, etag, where)


class TestCompare:
    @given(st.lists(PATHS), st.lists(PATHS))
    def test_it_finds_what_sets_find(self, objects: list[str], rows: list[str]) -> None:
        """Objects without rows and rows without objects are the differences, in order, each path once."""
        found = list(compare(map(lies, sorted(objects)), map(names, sorted(rows))))
        assert [each.path for each in found] == sorted(set(objects) ^ set(rows))
        assert [each.path for each in found if each.objects] == sorted(set(objects) - set(rows))
        assert sum(len(each.objects) + len(each.rows) for each in found) == sum(
            1 for path in [*objects, *rows] if path in set(objects) ^ set(rows)
        )

    def test_objects_that_are_another(self) -> None:
        """A size or etag that differs is a difference; what one side does not know is none."""
        objects = [lies("a", 1), lies("b", 1, '"x"'), lies("c", 1, '"x"'), lies("d", 1), lies("e", 5)]
        rows = [names("a", 2), names("b", 1, '"y"'), names("c", 1, '"x"'), names("d", 1, '"x"'), names("e", None)]
        assert list(compare(objects, rows)) == [
            Difference("a", [objects[0]], [rows[0]]),
            Difference("b", [objects[1]], [rows[1]]),
        ]

    def test_several_rows_and_objects_of_one_path(self) -> None:
        """Each row has to fit one of the objects; where one does not, all of them are told."""
        objects = [lies("a", 0), lies("a", 1)]
        assert list(compare(objects, [names("a"), names("a", 0)])) == []
        rows = [names("a"), names("a", 2, where=1)]
        assert list(compare(objects, rows)) == [Difference("a", objects, rows)]

    def test_what_is_staged_is_always_told(self) -> None:
        """A staged file fits no row."""
        objects = [lies("a", staged=True)]
        assert list(compare(objects, [names("a")])) == [Difference("a", objects, [names("a")])]

    @pytest.mark.parametrize(
        ("objects", "rows", "which"), [("ba", "", "the listing"), ("", "ba", "rows"), ("aba", "ab", "the listing")]
    )
    def test_disorder_is_an_error(self, objects: str, rows: str, which: str) -> None:
        """A stream that is not in order raises, for merging it would make orphans of what rows name."""
        with pytest.raises(OutOfOrder, match=which):
            list(compare(map(lies, objects), map(names, rows)))

    def test_it_reads_no_further_than_it_must(self) -> None:
        """The streams are read as they are merged, not before."""
        read = 0

        def endless() -> Iterator[Listed]:
            nonlocal read
            while True:
                read += 1
                yield lies(f"{read:06}")

        differences = compare(endless(), iter([names("000500")]))
        assert next(differences).path == "000001"
        assert read <= 3
        assert [next(differences).path for _ in range(600)][498] == "000501"

    def test_large_streams_agree(self) -> None:
        """Of many paths just those that differ are found."""
        paths = sorted(f"{random.Random(number).getrandbits(64):x}" for number in range(2000))
        objects = [lies(path) for number, path in enumerate(paths) if number % 100 != 1]
        rows = [names(path) for number, path in enumerate(paths) if number % 100 != 2]
        found = list(compare(objects, rows))
        assert [each.path for each in found] == [path for n, path in enumerate(paths) if n % 100 in (1, 2)]


@pytest.mark.parametrize(
    ("said", "found", "what"),
    [
        ((1, '"x"'), (1, '"x"'), None),
        ((1, '"x"'), (1, "x"), None),
        ((1, '"x"'), (1, '"y"'), "etag"),
        ((1, '"x"'), (2, '"y"'), "size"),
        ((0, None), (1, None), "size"),
        ((None, '"x"'), (1, '"y"'), "etag"),
        ((None, None), (1, '"y"'), None),
        ((1, ""), (1, '"y"'), None),
    ],
)
def test_fault(said: tuple[int | None, str | None], found: tuple[int, str | None], what: str | None) -> None:
    """What is known on both sides is compared, etags without their quotes."""
    assert fault(*said, *found) == what


def test_prefixes_are_whole_segments() -> None:
    """Below `a` lies neither `ab` nor `a` itself."""
    assert [path for path in ("a", "a/b", "ab", "a/", "b/a/c") if is_below(path, "a")] == ["a/b", "a/"]
    assert is_below("a/b", "a/")
    assert is_below("a", "")
