"""The names of media types: one for each, what files of it are called, and what may be found in what."""

import re

from lading.signatures import OFFICE

_TABLE = f"""
text/plain txt text log
  text/csv csv
  text/tab-separated-values tsv tab
  text/markdown md markdown
  text/css css
  text/calendar ics
  text/vcard vcf
  text/vtt vtt
  text/html html htm shtml
    application/xhtml+xml xhtml xht
  text/javascript js mjs cjs jsx
  text/cache-manifest appcache
  text/x-component htc
  application/hta hta
  text/x-python py pyw
  text/x-shellscript sh bash
  text/x-rst rst
  text/x-diff diff patch
  text/x-c c h
  text/x-c++ cc cpp hpp
  text/x-java java
  text/x-rust rs
  text/x-go go
  text/x-php php
  text/x-bat bat cmd
  application/sql sql
  application/toml toml
  application/yaml yaml yml
  application/x-subrip srt
  application/x-tex tex
  application/x-ndjson ndjson jsonl
  application/vnd.apple.mpegurl m3u8
  application/x-pem-file pem crt
  application/pgp-signature asc
  application/mbox mbox
  message/rfc822 eml
  model/obj obj
  application/json json
    application/geo+json geojson
    application/ld+json jsonld
    application/manifest+json webmanifest
    application/x-ipynb+json ipynb
  application/xml xml xsd
    image/svg+xml svg
    application/xslt+xml xsl xslt
    application/rss+xml rss
    application/atom+xml atom
    application/mathml+xml mml
    application/gpx+xml gpx
    application/vnd.google-earth.kml+xml kml
    application/xml-dtd dtd
application/zip zip
  application/epub+zip epub
  application/java-archive jar war
  application/vnd.android.package-archive apk
  application/vnd.google-earth.kmz kmz
  application/vnd.comicbook+zip cbz
  application/x-xpinstall xpi
  application/vnd.apple.pages pages
  application/vnd.apple.numbers numbers
  application/vnd.apple.keynote key
  application/vnd.oasis.opendocument.text odt
  application/vnd.oasis.opendocument.spreadsheet ods
  application/vnd.oasis.opendocument.presentation odp
  application/vnd.oasis.opendocument.graphics odg
  model/3mf 3mf
  {OFFICE}
    {OFFICE}.wordprocessingml.document docx
      {OFFICE}.wordprocessingml.template dotx
      application/vnd.ms-word.document.macroenabled.12 docm
    {OFFICE}.spreadsheetml.sheet xlsx
      {OFFICE}.spreadsheetml.template xltx
      application/vnd.ms-excel.sheet.macroenabled.12 xlsm
    {OFFICE}.presentationml.presentation pptx
      {OFFICE}.presentationml.slideshow ppsx
      application/vnd.ms-powerpoint.presentation.macroenabled.12 pptm
application/x-ole-storage
  application/msword doc dot
  application/vnd.ms-excel xls xlt
  application/vnd.ms-powerpoint ppt pps
  application/vnd.ms-outlook msg
  application/vnd.ms-project mpp
  application/vnd.visio vsd
  application/x-msi msi
application/pdf pdf
  application/illustrator ai
application/postscript ps eps
application/rtf rtf
application/gzip gz tgz svgz
application/x-bzip2 bz2
application/x-xz xz
application/zstd zst
application/x-lz4 lz4
application/x-7z-compressed 7z
application/vnd.rar rar
  application/vnd.comicbook-rar cbr
application/x-tar tar
application/vnd.ms-cab-compressed cab
application/vnd.debian.binary-package deb
application/x-rpm rpm
application/x-iso9660-image iso
application/x-apple-diskimage dmg
application/vnd.sqlite3 sqlite sqlite3
  application/geopackage+sqlite3 gpkg
application/vnd.apache.parquet parquet
application/vnd.microsoft.portable-executable exe dll
application/x-executable elf so
application/x-mach-binary dylib
application/java-vm class
application/wasm wasm
application/x-ms-shortcut lnk
application/vnd.adobe.flash.movie swf
application/dicom dcm
image/png png
  image/apng apng
image/jpeg jpg jpeg jpe jfif
image/gif gif
image/webp webp
image/bmp bmp dib
image/vnd.microsoft.icon ico cur
image/tiff tif tiff
  image/x-adobe-dng dng
  image/x-nikon-nef nef
  image/x-canon-cr2 cr2
  image/x-sony-arw arw
image/vnd.adobe.photoshop psd
image/heif heif
  image/heic heic
image/avif avif
image/jxl jxl
image/jp2 jp2
audio/mpeg mp3
audio/aac aac
audio/wav wav
audio/flac flac
audio/aiff aif aiff
audio/midi mid midi
audio/amr amr
application/ogg ogx
  audio/ogg ogg oga opus spx
  video/ogg ogv
video/mp4 mp4 m4v
  audio/mp4 m4a m4b
  video/quicktime mov qt
  video/3gpp 3gp
  video/3gpp2 3g2
video/matroska mkv
  audio/matroska mka
  video/webm webm
    audio/webm weba
video/x-msvideo avi
video/x-ms-asf asf
  video/x-ms-wmv wmv
  audio/x-ms-wma wma
video/x-flv flv
video/mpeg mpg mpeg vob
video/mp2t mts m2ts
font/woff woff
font/woff2 woff2
font/ttf ttf
font/otf otf
font/collection ttc
application/vnd.ms-fontobject eot
"""

# The name that lading uses, then others for the same.
_OTHER_NAMES = """
application/octet-stream binary/octet-stream application/x-download application/force-download application/unknown
application/octet-stream application/x-unknown application/binary
text/javascript application/javascript application/x-javascript application/ecmascript application/x-ecmascript
text/javascript text/ecmascript text/x-ecmascript text/x-javascript text/jscript text/livescript text/javascript1.0
text/javascript text/javascript1.1 text/javascript1.2 text/javascript1.3 text/javascript1.4 text/javascript1.5
application/xml text/xml
application/json text/json text/x-json application/x-json
application/yaml text/yaml text/x-yaml application/x-yaml
application/sql text/x-sql
application/x-subrip text/srt text/x-srt application/srt
application/vnd.apple.mpegurl application/x-mpegurl audio/mpegurl audio/x-mpegurl
application/xslt+xml text/xsl
text/csv application/csv text/x-csv text/comma-separated-values
text/markdown text/x-markdown
text/calendar text/x-vcalendar
text/vcard text/x-vcard text/directory
text/x-python text/x-script.python application/x-python-code
text/x-shellscript application/x-sh application/x-shellscript
text/x-php application/x-httpd-php application/x-php
application/zip application/x-zip application/x-zip-compressed multipart/x-zip
application/gzip application/x-gzip application/x-tgz application/x-gtar-compressed application/x-compressed-tar
application/x-bzip2 application/x-bzip application/bzip2
application/zstd application/x-zstd
application/vnd.rar application/x-rar application/x-rar-compressed application/rar
application/x-tar application/x-gtar application/x-ustar
application/vnd.debian.binary-package application/x-debian-package application/x-deb
application/vnd.sqlite3 application/x-sqlite3
application/java-archive application/x-java-archive application/x-jar
application/java-vm application/x-java-applet application/java application/x-java-vm
application/x-ole-storage application/cdfv2 application/vnd.ms-office application/x-cdf
application/vnd.ms-excel application/excel application/x-excel application/x-msexcel application/msexcel
application/vnd.ms-powerpoint application/mspowerpoint application/powerpoint application/x-mspowerpoint
application/pdf application/x-pdf
application/rtf text/rtf application/x-rtf text/richtext
application/x-msi application/x-ms-installer application/x-windows-installer
application/vnd.microsoft.portable-executable application/x-dosexec application/x-msdownload
application/vnd.microsoft.portable-executable application/x-msdos-program application/x-ms-dos-executable
application/vnd.microsoft.portable-executable application/exe application/x-exe
application/x-executable application/x-elf application/x-sharedlib application/x-pie-executable application/x-object
application/x-executable application/x-coredump
application/vnd.adobe.flash.movie application/x-shockwave-flash application/futuresplash
image/jpeg image/jpg image/pjpeg image/x-citrix-jpeg
image/png image/x-png image/x-citrix-png
image/bmp image/x-bmp image/x-ms-bmp image/x-windows-bmp
image/vnd.microsoft.icon image/x-icon image/ico image/icon image/x-ico image/x-win-bitmap
image/vnd.adobe.photoshop image/x-photoshop application/photoshop application/x-photoshop image/psd
image/svg+xml image/svg image/svg-xml application/svg+xml
audio/mpeg audio/mp3 audio/mpeg3 audio/x-mp3 audio/x-mpeg audio/x-mpeg-3
audio/wav audio/x-wav audio/wave audio/x-pn-wav audio/vnd.wave
audio/aac audio/x-aac audio/aacp audio/x-hx-aac-adts audio/x-hx-aac-adif
audio/mp4 audio/x-m4a audio/m4a audio/x-mp4 audio/x-m4b
audio/flac audio/x-flac
audio/aiff audio/x-aiff
audio/midi audio/mid audio/x-midi audio/x-mid
audio/ogg audio/opus audio/vorbis audio/x-vorbis+ogg audio/x-opus+ogg
audio/matroska audio/x-matroska
video/mp4 video/x-m4v application/mp4
video/x-msvideo video/avi video/msvideo video/vnd.avi
video/matroska video/x-matroska application/x-matroska
video/x-ms-asf application/vnd.ms-asf
font/woff application/font-woff application/x-font-woff
font/woff2 application/font-woff2
font/ttf application/x-font-ttf application/font-sfnt font/sfnt application/x-font-truetype
font/otf application/x-font-otf application/x-font-opentype application/vnd.ms-opentype
"""

_ACTIVE = frozenset(
    {
        "text/html",
        "application/xml",
        "application/xml-dtd",
        "application/xml-external-parsed-entity",
        "text/xml-external-parsed-entity",
        "text/javascript",
        "text/x-component",
        "text/scriptlet",
        "text/vbscript",
        "text/cache-manifest",
        "application/hta",
        "application/vnd.adobe.flash.movie",
    }
)

_NAME = (
    "[a-z0-9][a-z0-9!#$&^_.+-]{0,126}"  # restricted-name of RFC 6838, 4.2; a subset of the tokens of RFC 9110, 5.6.2
)
_TYPE = re.compile(f"{_NAME}/{_NAME}").fullmatch


def canonical(content_type: str) -> str | None:
    """The one name that lading uses for a type, in lower case, without parameters; `None` where it is no type.

    It is the name that IANA registers, where it does: `application/javascript` is `text/javascript` (RFC 9239),
    `text/xml` is `application/xml` (RFC 7303), `image/x-icon` is `image/vnd.microsoft.icon`. A wildcard is no type.
    """
    kind = content_type.partition(";")[0].strip(" \t")
    if not kind.isascii() or not _TYPE(kind := kind.lower()):
        return None
    return _ALIASES.get(kind, kind)


def is_active(content_type: str) -> bool:
    """Whether a browser that shows this type may run script in it, or load other content for it: never serve it inline.

    These are HTML, SVG and all other XML (any of it may carry XHTML), JavaScript by all its names (WHATWG MIME
    Sniffing, 4.6), Flash, cache manifests, and multipart types, whose parts may be any of these. Not PDF: its scripts
    run in the viewer, without the origin. What is no media type is active, for nobody knows what a browser makes of
    it.

    `Content-Disposition: attachment` does not keep a page from loading JavaScript by `<script src>`: that takes another
    `Content-Type`, together with `nosniff`, or another origin.
    """
    kind = canonical(content_type)
    return kind is None or kind in _ACTIVE or kind.endswith("+xml") or kind.startswith("multipart/")


def by_extension(extension: str) -> str | None:
    """The type of files with that extension, which is in lower case and without its dot."""
    return _EXTENSIONS.get(extension)


def within(kind: str, container: str) -> bool:
    """Whether one type is the other or is found in it, as `text/csv` in `text/plain`; both are canonical."""
    step: str | None = kind
    while step is not None and step != container:
        step = container_of(step)
    return step is not None


def container_of(kind: str) -> str | None:
    """The next wider type: all that one sees of a file of this type who looks less closely."""
    if container := _CONTAINERS.get(kind):
        return container
    for suffix, container in _SUFFIXES:
        if kind.endswith(suffix):
            return container
    return "text/plain" if kind != "text/plain" and kind.startswith(("text/", "message/")) else None


_SUFFIXES = (
    ("+xml", "application/xml"),
    ("+json", "application/json"),
    ("+yaml", "application/yaml"),
    ("+zip", "application/zip"),
)


def _read(table: str) -> tuple[dict[str, str], dict[str, str]]:
    """The types by extension, and the containers by type: the last line above that is indented less."""
    extensions: dict[str, str] = {}
    containers: dict[str, str] = {}
    above: list[str] = []
    for line in table.strip().splitlines():
        kind, *names = line.split()
        del above[(len(line) - len(line.lstrip())) // 2 :]
        if above:
            containers[kind] = above[-1]
        above.append(kind)
        extensions.update(dict.fromkeys(names, kind))
    return extensions, containers


_EXTENSIONS, _CONTAINERS = _read(_TABLE)
_ALIASES = {
    alias: name for name, *aliases in (line.split() for line in _OTHER_NAMES.strip().splitlines()) for alias in aliases
}
