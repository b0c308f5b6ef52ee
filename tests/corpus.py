"""Small real files, made here: what each is called, what type it is, and its bytes."""

import bz2
import gzip
import io
import json
import lzma
import struct
import tarfile
import wave
import zipfile
import zlib
from typing import NamedTuple


class Sample(NamedTuple):
    """A file: its honest name, its type, and whether the bytes alone show that type."""

    filename: str
    content_type: str
    content: bytes
    shows: bool = True


def zipped(*entries: tuple[str, bytes | str], stored: bool = False) -> bytes:
    """A ZIP archive of these entries, in this order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def _png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\xff\0\0")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _jpeg() -> bytes:
    jfif = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
    table = b"\xff\xdb\0\x43\0" + bytes([16] * 64)
    return b"\xff\xd8" + jfif + table + b"\xff\xc0\0\x0b\x08\0\1\0\1\1\1\x11\0" + b"\xff\xd9"


def _gif() -> bytes:
    return b"GIF89a\1\0\1\0\x80\0\0\xff\xff\xff\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"


def _bmp() -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 58, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 1, 1, 1, 24, 0, 4, 1, 1, 0, 0)
        + b"\0" * 4
    )


def _ico() -> bytes:
    png = _png()
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 1, 1, 0, 0, 1, 24, len(png), 22) + png


def _tiff() -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHIIHHIII", 2, 256, 3, 1, 1, 257, 3, 1, 1, 0)


def _webp() -> bytes:
    body = b"WEBPVP8L" + struct.pack("<I", 13) + b"\x2f\0\0\0\x10\x07\x10\x11\x11\x88\x88\xfe\x07\0"
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", 8 + len(data)) + kind + data


def _iso(brand: bytes, *compatible: bytes) -> bytes:
    head = _box(b"ftyp", brand + b"\0\0\2\0" + b"".join((brand, *compatible)))
    return head + _box(b"moov", _box(b"mvhd", b"\0" * 100)) + _box(b"mdat", b"\0" * 16)


def _ebml(kind: bytes) -> bytes:
    elements = b"\x42\x86\x81\1\x42\xf7\x81\1\x42\xf2\x81\4\x42\xf3\x81\x08\x42\x82" + bytes([0x80 | len(kind)]) + kind
    elements += b"\x42\x87\x81\4\x42\x85\x81\2"
    return b"\x1aE\xdf\xa3" + bytes([0x80 | len(elements)]) + elements + b"\x18S\x80g\x01" + b"\xff" * 7


def _ogg(packet: bytes) -> bytes:
    return b"OggS\0\2" + b"\0" * 8 + b"lade" + b"\0" * 8 + b"\1" + bytes([len(packet)]) + packet


def _mp3_frames() -> bytes:
    return (b"\xff\xfb\x90\x64" + b"\0" * 413) * 3


def _aac_frames() -> bytes:
    size = 32
    return (
        bytes([0xFF, 0xF1, 0x50, 0x80 | size >> 11, size >> 3 & 0xFF, (size & 7) << 5 | 0x1F, 0xFC])
        + b"\x21" * (size - 7)
    ) * 6


def _wav() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"\0\0" * 16)
    return buffer.getvalue()


def _avi() -> bytes:
    header = b"hdrlavih" + struct.pack("<I", 56) + b"\0" * 56
    body = b"AVI LIST" + struct.pack("<I", len(header)) + header
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _aiff() -> bytes:
    common = b"COMM" + struct.pack(">IHIH", 18, 1, 0, 16) + b"\x40\x0b\xfa\0\0\0\0\0\0\0"
    return b"FORM" + struct.pack(">I", 4 + len(common)) + b"AIFF" + common


def _pdf() -> bytes:
    return (
        b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
    )


def _exe() -> bytes:
    dos = b"MZ\x90\0\3\0\0\0\4\0\0\0\xff\xff\0\0\xb8" + b"\0" * 43 + struct.pack("<I", 128)
    optional = struct.pack("<HBB", 0x20B, 14, 0) + b"\0" * 236
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, len(optional), 0x22)
    return dos.ljust(128, b"\0") + coff + optional + b".text\0\0\0" + b"\0" * 32


def _elf() -> bytes:
    ident = b"\x7fELF\2\1\1" + b"\0" * 9
    return ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x400000, 0, 0, 0, 64, 0, 0, 0, 0, 0)


def _macho() -> bytes:
    return struct.pack("<IIIIIIII", 0xFEEDFACF, 0x01000007, 3, 2, 0, 0, 0, 0) + b"\0" * 32


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("notes.txt")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"hello"))
    return buffer.getvalue()


def _seven_zip() -> bytes:
    return b"7z\xbc\xaf\x27\x1c\0\4" + struct.pack("<IQQI", zlib.crc32(b"\0" * 20), 0, 0, 0)


def _rar() -> bytes:
    return b"Rar!\x1a\7\1\0" + b"\x33\x92\xb5\xe5\x0a\1\5\6\0\5\1\1\x80\x80\0"


def compound(*streams: str) -> bytes:
    """An OLE compound file with these streams, all empty: [MS-CFB]."""
    free, end = 0xFFFFFFFF, 0xFFFFFFFE
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 16 + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + b"\0" * 6
    header += struct.pack("<IIIIIIIIII", 0, 1, 1, 0, 4096, end, 0, end, 0, 0) + struct.pack("<I", free) * 108
    table = struct.pack("<II", 0xFFFFFFFD, end) + struct.pack("<I", free) * 126
    directory = b""
    for index, name in enumerate(("Root Entry", *streams)):
        text = name.encode("utf-16-le")
        child = 1 if index == 0 and streams else free
        following = index + 1 if 0 < index < len(streams) else free
        directory += text.ljust(64, b"\0") + struct.pack("<HBB", len(text) + 2, 5 if index == 0 else 2, 1)
        directory += struct.pack("<III", free, following, child) + b"\0" * 36 + struct.pack("<IQ", end, 0)
    return header + table + directory.ljust(512 * -(-len(directory) // 512), b"\0")


def _font(tag: bytes) -> bytes:
    return tag + struct.pack(">HHHH", 1, 16, 0, 0) + b"head" + struct.pack(">III", 0, 28, 54) + b"\0" * 54


_OFFICE = "application/vnd.openxmlformats-officedocument"
_TYPES_PART = '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
_RELATIONS = '<?xml version="1.0"?><Relationships/>'
_SVG_BODY = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
_HTML_BODY = "<html><head><title>x</title></head><body><script>alert(1)</script></body></html>"


def _office(part: str) -> bytes:
    return zipped(
        ("[Content_Types].xml", _TYPES_PART), ("_rels/.rels", _RELATIONS), (part, "<?xml version='1.0'?><x/>")
    )


def _open_document(kind: str) -> bytes:
    return zipped(("mimetype", kind), ("content.xml", "<?xml version='1.0'?><x/>"), stored=True)


ACTIVE = [
    Sample("page.html", "text/html", f"<!DOCTYPE html>\n{_HTML_BODY}".encode()),
    Sample("bare.html", "text/html", _HTML_BODY.encode()),
    Sample("upper.htm", "text/html", f"\n\t {_HTML_BODY.upper()}".encode()),
    Sample("script.html", "text/html", b"<script>alert(1)</script>"),
    Sample("frame.html", "text/html", b"<iframe src=javascript:alert(1)></iframe>"),
    Sample("image.html", "text/html", b"<img src=x onerror=alert(1)>"),
    Sample("slash.html", "text/html", b"<body/onload=alert(1)>"),
    Sample("comment.html", "text/html", b"<!-- a comment --><p>text</p>"),
    Sample("bom.html", "text/html", b"\xef\xbb\xbf" + _HTML_BODY.encode()),
    Sample("utf16.html", "text/html", f"\ufeff{_HTML_BODY}".encode("utf-16-le")),
    Sample("utf16be.html", "text/html", f"\ufeff{_HTML_BODY}".encode("utf-16-be")),
    Sample("no-mark.html", "text/html", f" {_HTML_BODY}".encode("utf-16-le")),
    Sample("binary.html", "text/html", _HTML_BODY.encode() + b"\0\1\2\3"),
    Sample("before.html", "text/html", b"<html><script>alert(1)</script>\n" + _pdf()),
    Sample("page.xhtml", "application/xhtml+xml", b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"/>'),
    Sample("bare.svg", "image/svg+xml", _SVG_BODY.encode()),
    Sample("prolog.svg", "image/svg+xml", f'<?xml version="1.0" encoding="UTF-8"?>\n{_SVG_BODY}'.encode()),
    Sample(
        "doctype.svg",
        "image/svg+xml",
        f'<?xml version="1.0"?><!-- x --><!DOCTYPE svg PUBLIC "-//W3C" "x" [<!ENTITY a "b">]>{_SVG_BODY}'.encode(),
    ),
    Sample("comment.svg", "image/svg+xml", f"<!-- drawn by hand -->\n{_SVG_BODY}".encode()),
    Sample("prefix.svg", "image/svg+xml", b'<s:svg xmlns:s="http://www.w3.org/2000/svg"><s:script/></s:svg>'),
    Sample("bom.svg", "image/svg+xml", f"\ufeff  {_SVG_BODY}".encode()),
    Sample("utf16.svg", "image/svg+xml", f'\ufeff<?xml version="1.0"?>{_SVG_BODY}'.encode("utf-16-be")),
    Sample("no-mark.svg", "image/svg+xml", f'<?xml version="1.0"?>{_SVG_BODY}'.encode("utf-16-be")),
    Sample("data.xml", "application/xml", b'<?xml version="1.0"?><root><item/></root>'),
    Sample("space.xml", "application/xml", b'<root xmlns="urn:x"><item/></root>'),
    Sample("sheet.xsl", "application/xslt+xml", b'<xsl:stylesheet xmlns:xsl="http://www.w3.org/1999/XSL/Transform"/>'),
    Sample("feed.rss", "application/rss+xml", b'<?xml version="1.0"?><rss version="2.0"><channel/></rss>'),
    Sample("feed.atom", "application/atom+xml", b'<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"/>'),
    Sample("formula.mml", "application/mathml+xml", b'<math xmlns="http://www.w3.org/1998/Math/MathML"/>'),
    Sample("tool.js", "text/javascript", b"#!/usr/bin/env node\nconsole.log(1)\n"),
    Sample("code.js", "text/javascript", b"function f(a) { return a + 1 }\nexport default f;\n", shows=False),
    Sample("module.mjs", "text/javascript", b"import { a } from './a.mjs';\na();\n", shows=False),
    Sample("offline.appcache", "text/cache-manifest", b"CACHE MANIFEST\n/index.html\n"),
    Sample(
        "movie.swf",
        "application/vnd.adobe.flash.movie",
        b"FWS\x0a" + struct.pack("<I", 21) + b"\x78\0\5\x5f\0\0\x0f\xa0\0\0\x0c\1\0",
    ),
]

IMAGES = [
    Sample("photo.png", "image/png", _png()),
    Sample("photo.jpg", "image/jpeg", _jpeg()),
    Sample("photo.gif", "image/gif", _gif()),
    Sample("photo.webp", "image/webp", _webp()),
    Sample("photo.bmp", "image/bmp", _bmp()),
    Sample("photo.tiff", "image/tiff", _tiff()),
    Sample("favicon.ico", "image/vnd.microsoft.icon", _ico()),
    Sample("photo.avif", "image/avif", _iso(b"avif", b"mif1")),
    Sample("photo.heic", "image/heic", _iso(b"heic", b"mif1")),
    Sample(
        "layers.psd",
        "image/vnd.adobe.photoshop",
        b"8BPS\0\1" + b"\0" * 6 + struct.pack(">HIIHH", 3, 1, 1, 8, 3) + b"\0" * 14,
    ),
    Sample("photo.jxl", "image/jxl", b"\0\0\0\x0cJXL \r\n\x87\n" + _box(b"ftyp", b"jxl \0\0\0\0jxl ")),
    Sample("gif89a.gif", "image/gif", b"GIF89a=1;/*" + _gif()[9:] + b"*/alert(1)//"),
]

DOCUMENTS = [
    Sample("paper.pdf", "application/pdf", _pdf()),
    Sample("late.pdf", "application/pdf", b"\0\0\0\0rubbish\n" + _pdf()),
    Sample("paper.ps", "application/postscript", b"%!PS-Adobe-3.0\n%%EOF\n"),
    Sample("letter.rtf", "application/rtf", b"{\\rtf1\\ansi hello}"),
    Sample("letter.docx", f"{_OFFICE}.wordprocessingml.document", _office("word/document.xml")),
    Sample("sums.xlsx", f"{_OFFICE}.spreadsheetml.sheet", _office("xl/workbook.xml")),
    Sample("talk.pptx", f"{_OFFICE}.presentationml.presentation", _office("ppt/presentation.xml")),
    Sample(
        "letter.odt",
        "application/vnd.oasis.opendocument.text",
        _open_document("application/vnd.oasis.opendocument.text"),
    ),
    Sample(
        "sums.ods",
        "application/vnd.oasis.opendocument.spreadsheet",
        _open_document("application/vnd.oasis.opendocument.spreadsheet"),
    ),
    Sample("book.epub", "application/epub+zip", _open_document("application/epub+zip")),
    Sample("letter.doc", "application/msword", compound("WordDocument", "1Table")),
    Sample("sums.xls", "application/vnd.ms-excel", compound("Workbook")),
    Sample("talk.ppt", "application/vnd.ms-powerpoint", compound("PowerPoint Document", "Current User")),
    Sample("mail.msg", "application/vnd.ms-outlook", compound("__nameid_version1.0"), shows=False),
]

ARCHIVES = [
    Sample("files.zip", "application/zip", zipped(("a.txt", b"hello"), ("b/c.txt", b"world"))),
    Sample("empty.zip", "application/zip", zipped()),
    Sample(
        "app.jar",
        "application/java-archive",
        zipped(("META-INF/", b""), ("META-INF/MANIFEST.MF", b"Manifest-Version: 1.0\n")),
    ),
    Sample(
        "app.apk",
        "application/vnd.android.package-archive",
        zipped(("AndroidManifest.xml", b"\3\0\x08\0")),
        shows=False,
    ),
    Sample("files.tar", "application/x-tar", _tar()),
    Sample("files.tar.gz", "application/gzip", gzip.compress(_tar(), mtime=0)),
    Sample("files.bz2", "application/x-bzip2", bz2.compress(b"hello")),
    Sample("files.xz", "application/x-xz", lzma.compress(b"hello")),
    Sample("files.zst", "application/zstd", b"\x28\xb5\x2f\xfd\x20\x05\x29\0\0hello"),
    Sample("files.7z", "application/x-7z-compressed", _seven_zip()),
    Sample("files.rar", "application/vnd.rar", _rar()),
    Sample(
        "files.cab",
        "application/vnd.ms-cab-compressed",
        b"MSCF\0\0\0\0" + struct.pack("<IIIIBBHHHHH", 44, 0, 36, 0, 3, 1, 0, 1, 0, 0, 0),
    ),
    Sample(
        "tool.deb",
        "application/vnd.debian.binary-package",
        b"!<arch>\ndebian-binary   1342943816  0     0     100644  4         `\n2.0\n",
    ),
    Sample("data.sqlite", "application/vnd.sqlite3", b"SQLite format 3\0\x10\0\1\1\0\x40\x20\x20" + b"\0" * 76),
]

EXECUTABLES = [
    Sample("setup.exe", "application/vnd.microsoft.portable-executable", _exe()),
    Sample("tool.elf", "application/x-executable", _elf()),
    Sample("tool.dylib", "application/x-mach-binary", _macho()),
    Sample("Main.class", "application/java-vm", b"\xca\xfe\xba\xbe\0\0\0\x34\0\x0d" + b"\x0a\0\3\0\x0a" * 4),
    Sample("module.wasm", "application/wasm", b"\0asm\1\0\0\0"),
    Sample("run.sh", "text/x-shellscript", b"#!/bin/sh\necho hello\n"),
    Sample("run.py", "text/x-python", b"#!/usr/bin/env python3\nprint(1)\n"),
]

AUDIO = [
    Sample("song.mp3", "audio/mpeg", b"ID3\3\0\0\0\0\0\0" + _mp3_frames()),
    Sample("frames.mp3", "audio/mpeg", _mp3_frames()),
    Sample("song.aac", "audio/aac", _aac_frames()),
    Sample("song.wav", "audio/wav", _wav()),
    Sample("song.flac", "audio/flac", b"fLaC\x80\0\0\x22\x10\0\x10\0" + b"\0" * 30),
    Sample("song.ogg", "audio/ogg", _ogg(b"\1vorbis\0\0\0\0\1\x44\xac\0\0" + b"\0" * 14)),
    Sample("song.opus", "audio/ogg", _ogg(b"OpusHead\1\1\0\0\x80\xbb\0\0\0\0\0")),
    Sample("song.m4a", "audio/mp4", _iso(b"M4A ", b"mp42", b"isom")),
    Sample("song.aiff", "audio/aiff", _aiff()),
    Sample("song.mid", "audio/midi", b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0"),
]

VIDEO = [
    Sample("film.mp4", "video/mp4", _iso(b"isom", b"iso2", b"mp41")),
    Sample("film.mov", "video/quicktime", _iso(b"qt  ")),
    Sample("film.3gp", "video/3gpp", _iso(b"3gp5", b"isom")),
    Sample("film.webm", "video/webm", _ebml(b"webm")),
    Sample("film.mkv", "video/matroska", _ebml(b"matroska")),
    Sample("film.ogv", "video/ogg", _ogg(b"\x80theora\3\2\1" + b"\0" * 32)),
    Sample("film.avi", "video/x-msvideo", _avi()),
    Sample("film.flv", "video/x-flv", b"FLV\1\5\0\0\0\x09\0\0\0\0"),
    Sample("film.mpg", "video/mpeg", b"\0\0\1\xba\x44\0\4\0\4\1\0\x89\xc3\xf8\0\0\1\xe0\0\7\x80\0\0\0\0\0\0"),
    Sample("film.wmv", "video/x-ms-wmv", b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa\0b\xcel" + b"\0" * 14, shows=False),
]

FONTS = [
    Sample("face.ttf", "font/ttf", _font(b"\0\1\0\0")),
    Sample("face.otf", "font/otf", _font(b"OTTO")),
    Sample("face.woff", "font/woff", b"wOFF\0\1\0\0" + struct.pack(">IHH", 44, 1, 0) + b"\0" * 28),
    Sample("face.woff2", "font/woff2", b"wOF2\0\1\0\0" + struct.pack(">IHH", 48, 1, 0) + b"\0" * 32),
]

TEXTS = [
    Sample("notes.txt", "text/plain", b"Hello, world.\nThis is a text.\n"),
    Sample("latin.txt", "text/plain", "Grüße aus Köln\n".encode("latin-1")),
    Sample("chinese.txt", "text/plain", "提單\n".encode()),
    Sample("utf16.txt", "text/plain", "\ufeffhello\n".encode("utf-16-le")),
    Sample("data.json", "application/json", json.dumps({"a": [1, 2, {"b": None}]}, indent=1).encode()),
    Sample("list.json", "application/json", b'\n[1, 2, "three"]\n'),
    Sample("long.json", "application/json", json.dumps([{"key": "value" * 4}] * 500).encode(), shows=False),
    Sample("map.geojson", "application/geo+json", b'{"type": "Point", "coordinates": [1, 2]}', shows=False),
    Sample("table.csv", "text/csv", b"a,b,c\n1,2,3\n4,5,6\n", shows=False),
    Sample("readme.md", "text/markdown", b"# Title\n\nSome *text*.\n", shows=False),
    Sample("style.css", "text/css", b"body { color: red }\n", shows=False),
    Sample("conf.yaml", "application/yaml", b"a: 1\nb: [2]\n", shows=False),
    Sample("meeting.ics", "text/calendar", b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nEND:VCALENDAR\r\n"),
    Sample("person.vcf", "text/vcard", b"BEGIN:VCARD\r\nVERSION:4.0\r\nEND:VCARD\r\n"),
    Sample("film.vtt", "text/vtt", b"WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n"),
]

EMPTY = [
    Sample("nothing", "application/octet-stream", b""),
    Sample("nothing.txt", "text/plain", b"", shows=False),
    Sample("nothing.csv", "text/csv", b"", shows=False),
]

ALL = [*ACTIVE, *IMAGES, *DOCUMENTS, *ARCHIVES, *EXECUTABLES, *AUDIO, *VIDEO, *FONTS, *TEXTS, *EMPTY]
