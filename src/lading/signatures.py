"""Binary formats by their signatures: a table by first byte, and a look inside where a prefix does not tell.

They are those of section 6 of the WHATWG MIME Sniffing standard and the other formats that people upload. Where the
standard stops at a container (Ogg, Matroska, ZIP), this looks one level in. Types have the names of
`lading.mediatypes`.
"""

import re
from collections.abc import Callable
from typing import TypeAlias

ZIP = "application/zip"
OLE = "application/x-ole-storage"
OFFICE = "application/vnd.openxmlformats-officedocument"
"""An Office document of which the head does not show the kind; the name may."""
PORTABLE_EXECUTABLE = "application/vnd.microsoft.portable-executable"

Answer: TypeAlias = str | Callable[[bytes], str | None]


def signature(head: bytes) -> str | None:
    """The binary format that begins with these bytes; `None` where it is text or not in the table."""
    for prefix, answer in _SIGNATURES.get(head[0], ()) if head else ():
        if head.startswith(prefix) and (found := answer if isinstance(answer, str) else answer(head)):
            return found
    if head[257:262] == b"ustar":
        return "application/x-tar"
    if head[128:132] == b"DICM":
        return "application/dicom"
    if head[34:36] == b"LP" and head[8:11] in (b"\0\0\1", b"\1\0\2", b"\2\0\2"):
        return "application/vnd.ms-fontobject"
    return None


# APPNOTE.TXT 4.3.7: the lengths of the name and of the extra field.
_LOCAL_HEADER = re.compile(rb"PK\x03\x04.{22}(..)(..)", re.DOTALL)
# ODF 1.2 part 3, 3.3, and EPUB OCF 4.3: the first entry, `mimetype`, is stored plain and is the type.
_STORED_TYPE = re.compile(rb"application/(?:vnd\.oasis\.opendocument\.[a-z-]+|epub\+zip)")
_OFFICE_FOLDERS = (
    (b"word/", OFFICE + ".wordprocessingml.document"),
    (b"xl/", OFFICE + ".spreadsheetml.sheet"),
    (b"ppt/", OFFICE + ".presentationml.presentation"),
)
_OFFICE_PARTS = (b"[Content_Types].xml", b"_rels/", b"docProps/", b"customXml/")


def _zip(head: bytes) -> str:
    """Office documents, EPUB and Java archives, by those entries whose headers lie in the head."""
    found = ZIP
    for header in _LOCAL_HEADER.finditer(head):
        end_of_name = header.end() + int.from_bytes(header[1], "little")
        name = head[header.end() : end_of_name]
        if header.start() == 0 and name == b"mimetype":
            stored = _STORED_TYPE.match(head, end_of_name + int.from_bytes(header[2], "little"))
            return stored[0].decode() if stored else ZIP
        if header.start() == 0 and name.startswith(b"META-INF/"):
            return "application/java-archive"
        for folder, kind_of in _OFFICE_FOLDERS:
            if name.startswith(folder):
                return kind_of
        if name.startswith(_OFFICE_PARTS):
            found = OFFICE
    return found


_OLE_STREAMS = tuple(
    (name.encode("utf-16-le"), found)
    for name, found in (
        ("WordDocument\0", "application/msword"),
        ("Workbook\0", "application/vnd.ms-excel"),
        ("PowerPoint Document\0", "application/vnd.ms-powerpoint"),
    )
)


def _ole(head: bytes) -> str:
    """What Office 97 wrote, where the directory of the compound file lies in the head: [MS-CFB] 2.6."""
    return next((found for name, found in _OLE_STREAMS if name in head), OLE)


def _riff(head: bytes) -> str | None:
    if head[8:14] == b"WEBPVP":
        return "image/webp"
    return {b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}.get(head[8:12])


_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic",
    b"hevx": "image/heic",
    b"mif1": "image/heif",
    b"msf1": "image/heif",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
    b"crx ": "image/x-canon-cr3",
}


def _iso_media(head: bytes) -> str | None:
    """ISO base media files by their major brand, as mp4ra.org registers them; section 6.2.1 of the standard."""
    if head[4:8] != b"ftyp":
        return None
    brand = head[8:12]
    if found := _BRANDS.get(brand):
        return "image/avif" if found == "image/heif" and b"avif" in head[16:64] else found
    if brand.startswith(b"3g"):
        return "video/3gpp2" if brand.startswith(b"3g2") else "video/3gpp"
    known = (b"mp4", b"iso", b"avc", b"M4V", b"dash", b"MSNV", b"f4v", b"mmp4")
    return "video/mp4" if brand.startswith(known) or b"mp4" in head[16 : int.from_bytes(head[:4], "big")] else None


def _ogg(head: bytes) -> str:
    """Ogg by its first packet: RFC 5334, section 4."""
    packet = head[28:36]
    if packet.startswith((b"\x01vorbis", b"OpusHead", b"Speex   ", b"\x7fFLAC")):
        return "audio/ogg"
    return "video/ogg" if packet.startswith(b"\x80theora") else "application/ogg"


def _ebml(head: bytes) -> str | None:
    """WebM and Matroska by their DocType: section 6.2.2 of the standard, RFC 9559."""
    kind = re.match(rb".{4,60}?\x42\x82.(webm|matroska)", head, re.DOTALL)
    return f"video/{kind[1].decode()}" if kind else None


_RATES = (44100, 48000, 32000)
_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_LOW = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def _mpeg_audio(head: bytes) -> str | None:
    """MP3 without ID3, and AAC in ADTS: a frame, and where it ends the next; section 6.2.3 of the standard."""
    if len(head) < 7:
        return None
    version, layer, rate, kbits = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 2 & 3, head[2] >> 4
    if layer == 0 and version >= 2:
        found, size = "audio/aac", (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    elif layer == 1 and version != 1 and rate < 3 and 0 < kbits < 15:
        bits = (_KBITS if version == 3 else _KBITS_LOW)[kbits - 1] * 1000
        hertz = _RATES[rate] >> (0 if version == 3 else 1 if version == 2 else 2)
        found, size = "audio/mpeg", bits * (144 if version == 3 else 72) // hertz + (head[2] >> 1 & 1)
    else:
        return None
    following = head[size : size + 2]
    return found if size > 7 and following[1:] and following[0] == 0xFF and following[1] == head[1] else None


def _transport_stream(head: bytes) -> str | None:
    return "video/mp2t" if len(head) > 376 and head[188] == head[376] == 0x47 else None


def _bitmap(head: bytes) -> str | None:
    return "image/bmp" if head[14:18] in _BITMAP_HEADERS else None


_BITMAP_HEADERS = {size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124)}


def _dos(head: bytes) -> str | None:
    """`MZ` is also how a text may begin: the header has zero bytes."""
    return PORTABLE_EXECUTABLE if b"\0" in head[2:64] else None


def _cafebabe(head: bytes) -> str | None:
    """A Java class has its version, 45 at least, where a fat Mach-O file counts its architectures."""
    count = int.from_bytes(head[4:8], "big")
    return "application/java-vm" if count > 44 else "application/x-mach-binary" if count else None


def _flash(head: bytes) -> str | None:
    """SWF by its version, which ends well below the letters that a text would have there."""
    return "application/vnd.adobe.flash.movie" if head[8:] and 0 < head[3] < 0x30 and head[3] != 0x20 else None


def _aiff(head: bytes) -> str | None:
    return "audio/aiff" if head[8:12] in (b"AIFF", b"AIFC") else None


def _icon(head: bytes) -> str | None:
    """The directory of an icon: how many images, and a zero in the reserved byte of the first."""
    return "image/vnd.microsoft.icon" if head[9:] and head[4] and not head[5] and not head[9] else None


def _truetype(head: bytes) -> str | None:
    """Its version is no more than a number: the tag of the first table, four letters, makes sure."""
    return "font/ttf" if len(head) > 15 and all(0x20 <= byte < 0x7F for byte in head[12:16]) else None


def _by_first_byte(entries: tuple[tuple[bytes, Answer], ...]) -> dict[int, list[tuple[bytes, Answer]]]:
    table: dict[int, list[tuple[bytes, Answer]]] = {}
    for prefix, answer in entries:
        table.setdefault(prefix[0], []).append((prefix, answer))
    return table


_SIGNATURES = _by_first_byte(
    (
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"RIFF", _riff),
        (b"BM", _bitmap),
        (b"\0\0\1\0", _icon),
        (b"\0\0\2\0", _icon),
        (b"II*\0", "image/tiff"),
        (b"MM\0*", "image/tiff"),
        (b"8BPS", "image/vnd.adobe.photoshop"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
        (b"%PDF-", "application/pdf"),
        (b"%!PS-Adobe-", "application/postscript"),
        (b"\xc5\xd0\xd3\xc6", "application/postscript"),
        (b"{\\rtf", "application/rtf"),
        (b"\0", _iso_media),
        (b"\x1aE\xdf\xa3", _ebml),
        (b"OggS\0", _ogg),
        (b"ID3", "audio/mpeg"),
        (b"\xff", _mpeg_audio),
        (b"fLaC", "audio/flac"),
        (b"FORM", _aiff),
        (b"MThd\0\0\0\6", "audio/midi"),
        (b"#!AMR\n", "audio/amr"),
        (b"0&\xb2u\x8ef\xcf\x11", "video/x-ms-asf"),
        (b"FLV\1", "video/x-flv"),
        (b"\0\0\1\xba", "video/mpeg"),
        (b"\0\0\1\xb3", "video/mpeg"),
        (b"G", _transport_stream),
        (b"wOFF", "font/woff"),
        (b"wOF2", "font/woff2"),
        (b"OTTO", "font/otf"),
        (b"\0\1\0\0\0", _truetype),
        (b"ttcf", "font/collection"),
        (b"PK\3\4", _zip),
        (b"PK\5\6", ZIP),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _ole),
        (b"\x1f\x8b\x08", "application/gzip"),
        (b"BZh", "application/x-bzip2"),
        (b"\xfd7zXZ\0", "application/x-xz"),
        (b"\x28\xb5\x2f\xfd", "application/zstd"),
        (b'\4"M\x18', "application/x-lz4"),
        (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
        (b"Rar!\x1a\7", "application/vnd.rar"),
        (b"MSCF\0\0\0\0", "application/vnd.ms-cab-compressed"),
        (b"!<arch>\ndebian", "application/vnd.debian.binary-package"),
        (b"!<arch>\n", "application/x-archive"),
        (b"\xed\xab\xee\xdb", "application/x-rpm"),
        (b"SQLite format 3\0", "application/vnd.sqlite3"),
        (b"PAR1", "application/vnd.apache.parquet"),
        (b"MZ", _dos),
        (b"\x7fELF", "application/x-executable"),
        (b"\xca\xfe\xba\xbe", _cafebabe),
        (b"\xfe\xed\xfa\xce", "application/x-mach-binary"),
        (b"\xfe\xed\xfa\xcf", "application/x-mach-binary"),
        (b"\xce\xfa\xed\xfe", "application/x-mach-binary"),
        (b"\xcf\xfa\xed\xfe", "application/x-mach-binary"),
        (b"\0asm", "application/wasm"),
        (b"L\0\0\0\1\x14\2\0", "application/x-ms-shortcut"),
        (b"FWS", _flash),
        (b"CWS", _flash),
        (b"ZWS", _flash),
    )
)

KNOWN = frozenset(
    {answer for entries in _SIGNATURES.values() for _, answer in entries if isinstance(answer, str)}
    | {OLE, PORTABLE_EXECUTABLE, "application/x-tar", "application/dicom", "application/vnd.ms-fontobject"}
    | {"application/ogg", "application/java-vm", "application/x-mach-binary", "application/vnd.adobe.flash.movie"}
)
"""Formats that would have shown in the bytes: where they did not, no name and no claim makes a file one of them.

Images, audio, video and fonts are not all listed: none of them is believed without its signature.
"""
