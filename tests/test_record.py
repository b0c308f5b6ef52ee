"""The JSON of a row: what is read, what is written, and what is refused."""

import json
import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lading.errors import RecordError
from lading.record import Candidate, FileRecord

MEMBERS = [
    "backend",
    "path",
    "filename",
    "content_type",
    "size",
    "last_modified",
    "checksum",
    "etag",
    "version_id",
    "metadata",
]
FULL: dict[str, Any] = {
    "backend": "local",
    "path": "2026/03/a.pdf",
    "filename": "Bericht über alles.pdf",
    "content_type": "application/pdf",
    "size": 12,
    "last_modified": 1773014400.25,
    "checksum": "sha256:" + "0" * 64,
    "etag": '"abc"',
    "version_id": "v1",
    "metadata": {"pages": 3, "tags": ["a", None]},
}

TEXT = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.fixed_dictionaries(
    {"backend": TEXT, "path": TEXT, "filename": TEXT},
    optional={
        "content_type": TEXT,
        "size": st.none() | st.integers(0, 2**63),
        "last_modified": st.none() | st.floats(0, 1e12),
        "checksum": st.none() | TEXT,
        "etag": st.none() | TEXT,
        "version_id": st.none() | TEXT,
        "metadata": st.dictionaries(TEXT, JSON, max_size=3),
    },
)


class TestRoundTrip:
    def test_a_full_record(self) -> None:
        """Every member is read, and written in its fixed order."""
        record = FileRecord.from_dict(FULL)
        assert record.to_dict() == FULL
        assert list(record.to_dict()) == MEMBERS
        assert json.loads(record.to_json()) == FULL
        assert record.unknown == {}

    def test_defaults(self) -> None:
        """What is not there is unknown, and the type is the one for unknown bytes."""
        record = FileRecord.from_dict({"backend": "b", "path": "p", "filename": "f"})
        assert record.to_dict() == {
            **dict.fromkeys(MEMBERS),
            "backend": "b",
            "path": "p",
            "filename": "f",
            "content_type": "application/octet-stream",
            "metadata": {},
        }

    @given(OBJECTS, st.dictionaries(TEXT.filter(lambda name: name not in MEMBERS), JSON, max_size=3))
    @example({"backend": "b", "path": "p", "filename": "f"}, {"unknown": {"unknown": 1}, "": None})
    def test_unknown_members_survive(self, members: dict[str, Any], unknown: dict[str, Any]) -> None:
        """Members that this version does not know come back as they were, whatever they are called."""
        data = members | unknown
        record = FileRecord.from_json(json.dumps(data))
        assert record.unknown == unknown
        written = json.loads(record.to_json())
        assert {name: written[name] for name in data} == data
        assert FileRecord.from_dict(written) == record

    @given(OBJECTS)
    def test_text_and_bytes_and_raw_are_one(self, members: dict[str, Any]) -> None:
        """JSON is read alike from text, bytes and msgspec's raw values, and a record pickles."""
        text = json.dumps(members)
        record = FileRecord.from_dict(members)
        assert FileRecord.from_json(text) == FileRecord.from_json(text.encode()) == record
        assert FileRecord.from_json(msgspec.Raw(text.encode())) == record
        assert pickle.loads(pickle.dumps(record)) == record

    def test_records_share_nothing(self) -> None:
        """Two records without metadata do not share one dict, nor does a record share the caller's."""
        first, second = (FileRecord(backend="b", path="p", filename="f") for _ in range(2))
        first.metadata["a"] = 1
        first.unknown["b"] = 2
        assert second.metadata == second.unknown == {}
        data = {"backend": "b", "path": "p", "filename": "f", "metadata": {"a": 1}}
        FileRecord.from_dict(data).metadata["a"] = 2
        assert data["metadata"] == {"a": 1}


class TestAncestor:
    def test_its_filename_is_the_path(self) -> None:
        """A row of advanced-alchemy has no path: its file name is one, and the last segment of it is shown."""
        data = {
            "filename": "in/box/a.pdf",
            "content_type": "application/pdf",
            "size": 3,
            "last_modified": 1.5,
            "checksum": None,
            "etag": '"e"',
            "version_id": None,
            "metadata": {"a": 1},
            "backend": "local",
        }
        record = FileRecord.from_dict(data)
        assert (record.path, record.filename) == ("in/box/a.pdf", "a.pdf")
        assert record.to_dict() == {**data, "path": "in/box/a.pdf", "filename": "a.pdf"}

    def test_a_real_one_loads(self) -> None:
        """What advanced-alchemy itself writes is read."""
        ancestor = pytest.importorskip("advanced_alchemy.types.file_object")
        memory = pytest.importorskip("advanced_alchemy.types.file_object.backends.obstore")
        backend = memory.ObstoreBackend(key="old", fs="memory://")
        file = ancestor.FileObject(backend=backend, filename="a.pdf", to_filename="in/b.pdf", size=3, metadata={"a": 1})
        record = FileRecord.from_json(json.dumps(file.to_dict()))
        assert (record.backend, record.path, record.filename, record.size) == ("old", "in/b.pdf", "b.pdf", 3)
        assert (record.content_type, record.metadata, record.unknown) == ("application/pdf", {"a": 1}, {})

    def test_null_metadata_is_none_at_all(self) -> None:
        """A row whose metadata is null has empty metadata."""
        assert FileRecord.from_dict({**FULL, "metadata": None}).metadata == {}


class TestRefused:
    @pytest.mark.parametrize(
        "change",
        [
            {"backend": None},
            {"backend": 1},
            {"path": None},
            {"filename": ["a"]},
            {"content_type": None},
            {"size": "12"},
            {"size": 1.5},
            {"last_modified": "now"},
            {"checksum": 5},
            {"metadata": []},
        ],
    )
    def test_a_member_of_the_wrong_type(self, change: dict[str, Any]) -> None:
        """A member of the wrong type is an error that names it, in a dict and in JSON."""
        (name,) = change
        for read in (FileRecord.from_dict, lambda data: FileRecord.from_json(json.dumps(data))):
            with pytest.raises(RecordError, match=rf"\$\.{name}"):
                read({**FULL, **change})

    @pytest.mark.parametrize("name", ["backend", "filename"])
    def test_a_missing_member(self, name: str) -> None:
        """Without a backend or a name there is no record."""
        with pytest.raises(RecordError, match=name):
            FileRecord.from_dict({key: value for key, value in FULL.items() if key != name})

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            "null",
            '"a"',
            "{}",
            "\ud800",
            b"\xff",
            b'{"backend":"\xff","path":"p","filename":"f"}',
            b"{} {}",
        ],
    )
    def test_what_is_no_record(self, text: str | bytes) -> None:
        """Text that is not JSON, not an object or not a record is an error, also where it is not even Unicode."""
        with pytest.raises(RecordError, match="not the record of a stored file"):
            FileRecord.from_json(text)

    def test_the_error_does_not_repeat_a_long_value(self) -> None:
        """The message shows the beginning of what was refused."""
        with pytest.raises(RecordError) as caught:
            FileRecord.from_json("x" * 10_000)
        assert len(str(caught.value)) < 400

    def test_metadata_that_json_cannot_hold(self) -> None:
        """Metadata that cannot be written is an error that names the file."""
        endless: dict[str, Any] = {}
        endless["again"] = endless
        mistakes: list[Any] = [{"a": object()}, {"a": "\ud800"}, {(1, 2): 3}, endless]
        for metadata in mistakes:
            record = FileRecord(backend="b", path="p", filename="the file", metadata=metadata)
            with pytest.raises(RecordError, match="the file"):
                record.to_json()

    def test_what_a_driver_decoded(self) -> None:
        """JSON that a driver has decoded to something else than text or an object is an error of ours."""
        value: Any
        for value in (5, True, ["a"]):
            with pytest.raises(RecordError, match="not the record"):
                FileRecord.from_json(value)


class TestCandidate:
    def test_is_a_value(self) -> None:
        """A candidate cannot be changed, and is equal to one that says the same."""
        candidate = Candidate("a.pdf", "application/pdf")
        assert candidate == Candidate(filename="a.pdf", content_type="application/pdf", size=None, metadata={})
        with pytest.raises(AttributeError):
            setattr(candidate, "size", 5)  # noqa: B010  # spelled as an assignment it does not type-check
