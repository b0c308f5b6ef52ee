"""The JSON value that a row keeps of a stored file, and what is known of a file before it is stored."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from lading.errors import RecordError

Disposition: TypeAlias = Literal["inline", "attachment"]
"""What a browser is asked to do with a file (RFC 6266, section 4.2): show it, or save it."""


class Candidate(msgspec.Struct, frozen=True):
    """What is known of a file that is about to be stored: what rules judge and path makers name.

    Attributes:
        filename: what the user called it, sanitised; for display, never a path.
        content_type: the media type that was decided on, in lower case and without parameters.
        size: in bytes; `None` while a stream has not ended.
        metadata: what the caller attached.
        token: an unguessable, time-ordered name made for this one file; a path that contains it can be nobody else's.
    """

    filename: str
    content_type: str
    size: int | None = None
    metadata: Mapping[str, Any] = {}
    token: str = ""


class FileRecord(msgspec.Struct, kw_only=True, omit_defaults=False):
    """A stored file, as a row remembers it.

    Attributes:
        backend: the key of the backend.
        path: where the object lies in it.
        filename: what the user called it.
        content_type: the media type, without parameters.
        size: in bytes.
        last_modified: seconds since the epoch, UTC.
        checksum: `"<algorithm>:<hex>"`, counted while the bytes streamed past; `None` where that was switched off.
        etag: what the store answered, in its own quotes.
        version_id: the version, where the store keeps several.
        metadata: what the application attached; JSON values.
        unknown: members of the JSON object that this version does not know; they survive a load and a store.
    """

    backend: str
    path: str
    filename: str
    content_type: str = "application/octet-stream"
    size: int | None = None
    last_modified: float | None = None
    checksum: str | None = None
    etag: str | None = None
    version_id: str | None = None
    metadata: dict[str, Any] = {}
    unknown: dict[str, Any] = {}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "FileRecord":
        """A record from the JSON object, also from one of `advanced_alchemy` (no `path`: its `filename` is the path).

        Raises:
            RecordError: a member is missing or of the wrong type.
        """
        known = {name: value for name, value in data.items() if name in _MEMBERS}
        unknown = {name: value for name, value in data.items() if name not in _MEMBERS}
        if "path" not in known and "filename" in known:
            known["path"] = known["filename"]
            known["filename"] = str(known["filename"]).rpartition("/")[2]
        if known.get("metadata", ...) is None:
            del known["metadata"]
        try:
            record = msgspec.convert(known, cls)
        except msgspec.ValidationError as error:
            raise RecordError(f"not the record of a stored file: {error}: {dict(data)!r:.200}") from error
        record.unknown = unknown
        return record

    @classmethod
    def from_json(cls, text: str | bytes | msgspec.Raw) -> "FileRecord":
        """A record from its JSON text.

        Raises:
            RecordError: the text is not JSON, not an object, or not a record.
        """
        try:
            data = msgspec.json.decode(text, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeError, TypeError) as error:
            shown = bytes(text) if isinstance(text, msgspec.Raw) else text
            raise RecordError(f"not the record of a stored file: {error}: {shown!r:.200}") from error
        return cls.from_dict(data)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object, members in their fixed order, the unknown ones last."""
        return {name: getattr(self, name) for name in _ORDER} | self.unknown

    def to_json(self) -> bytes:
        """The JSON text, UTF-8.

        Raises:
            RecordError: the metadata holds something that JSON cannot.
        """
        try:
            return msgspec.json.encode(self.to_dict())
        except (TypeError, ValueError, RecursionError) as error:
            raise RecordError(f"the metadata of {self.filename!r} cannot be written as JSON: {error}") from error


_ORDER = tuple(name for name in FileRecord.__struct_fields__ if name != "unknown")
_MEMBERS = frozenset(_ORDER)
