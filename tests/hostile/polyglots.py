"""Bytes that are two things at once, and things that go by another name."""

from typing import NamedTuple

from tests import corpus

SCRIPT = b"<script>alert(document.domain)</script>"
PAGE = b"<!DOCTYPE html><html><body>" + SCRIPT + b"</body></html>"
DRAWING = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(2)</script></svg>'
STYLE = b'<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="#s"?><a xmlns:h="http://www.w3.org/1999/xhtml"/>'


def _sample(content_type: str) -> bytes:
    return next(sample.content for sample in corpus.ALL if sample.content_type == content_type)


class Polyglot(NamedTuple):
    """A file as an attacker sends it."""

    filename: str
    content_type: str | None
    content: bytes


GIF, PNG, JPEG, PDF = (_sample(kind) for kind in ("image/gif", "image/png", "image/jpeg", "application/pdf"))

POLYGLOTS = {
    "GIF that is JavaScript": Polyglot("a.gif", "image/gif", b"GIF89a/*" + GIF[8:] + b"*/=1;alert(document.domain)//"),
    "GIF with HTML behind it": Polyglot("a.gif", "image/gif", GIF + PAGE),
    "GIF as JavaScript": Polyglot("a.js", "text/javascript", b"GIF89a=1;alert(1)"),
    "GIF as HTML": Polyglot("a.html", "text/html", GIF + PAGE),
    "PNG with HTML in a comment": Polyglot("a.png", "image/png", PNG[:33] + PAGE + PNG[33:]),
    "PNG named HTML": Polyglot("a.html", "image/png", PNG + PAGE),
    "PDF with HTML before it": Polyglot("a.pdf", "application/pdf", PAGE + b"\n" + PDF),
    "PDF with HTML behind it": Polyglot("a.pdf", "application/pdf", PDF + PAGE),
    "PDF named HTML": Polyglot("a.html", "application/pdf", PDF + PAGE),
    "HTML as an image": Polyglot("a.png", "image/png", PAGE),
    "HTML as text": Polyglot("a.txt", "text/plain", PAGE),
    "HTML as JSON": Polyglot("a.json", "application/json", PAGE),
    "HTML as nothing": Polyglot("a", None, PAGE),
    "HTML behind white space": Polyglot("a.png", "image/png", b" \r\n\t" * 1000 + PAGE),
    "HTML behind a kilobyte": Polyglot("a.png", "image/png", b"a" * 1500 + PAGE),
    "HTML in UTF-16": Polyglot("a.txt", "text/plain", PAGE.decode().encode("utf-16")),
    "HTML in UTF-7": Polyglot("a.txt", "text/plain; charset=utf-7", b"+ADw-script+AD4-alert(1)+ADw-/script+AD4-"),
    "HTML with a comment first": Polyglot("a.jpg", "image/jpeg", b"<!--" + JPEG + b"-->" + PAGE),
    "SVG named PNG": Polyglot("a.png", "image/png", DRAWING),
    "SVG as SVG": Polyglot("a.svg", "image/svg+xml", DRAWING),
    "SVG in capitals": Polyglot("a.SVG", "IMAGE/SVG+XML", DRAWING),
    "SVG behind a comment": Polyglot("a.png", "image/png", b"<!--" + b"a" * 2000 + b"-->" + DRAWING),
    "SVG compressed": Polyglot("a.svgz", "image/svg+xml", b"\x1f\x8b\x08\0\0\0\0\0\0\3" + b"\0" * 20),
    "XML with a stylesheet": Polyglot("a.xml", "text/xml", STYLE),
    "XML as an image": Polyglot("a.png", "image/png", STYLE),
    "XHTML": Polyglot("a.xhtml", "application/xhtml+xml", b'<html xmlns="http://www.w3.org/1999/xhtml">' + SCRIPT),
    "MathML": Polyglot("a.mml", "application/mathml+xml", b"<math>" + SCRIPT + b"</math>"),
    "RSS": Polyglot("a.rss", "application/rss+xml", b"<rss>" + SCRIPT + b"</rss>"),
    "MHTML": Polyglot("a.mht", "multipart/related", b"MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n" + PAGE),
    "HTA": Polyglot("a.hta", "application/hta", PAGE),
    "JPEG with a ZIP behind it": Polyglot("a.jpg", "image/jpeg", JPEG + corpus.zipped(("a.html", PAGE))),
    "JPEG with PHP behind it": Polyglot("a.jpg", "image/jpeg", JPEG + b"<?php system($_GET['a']); ?>"),
    "JPEG as JavaScript": Polyglot("a.jpg", "text/javascript", b"\xff\xd8\xff\xe0/*" + JPEG[4:] + b"*/alert(1)"),
    "ZIP as an image": Polyglot("a.png", "image/png", corpus.zipped(("a.html", PAGE))),
    "a program named PDF": Polyglot(
        "a.pdf", "application/pdf", b"MZ\x90\0" + b"\0" * 56 + b"\x80\0\0\0" + b"\0" * 64 + b"PE\0\0"
    ),
    "an ELF named PNG": Polyglot("a.png", "image/png", b"\x7fELF\2\1\1" + b"\0" * 57),
    "a shell script named text": Polyglot("a.txt", "text/plain", b"#!/bin/sh\nid\n"),
    "Flash": Polyglot("a.swf", "application/x-shockwave-flash", b"CWS\x0a" + b"\0" * 100),
    "JavaScript as text": Polyglot("a.js", "text/plain", b"alert(1)"),
    "JavaScript as JSON": Polyglot("a.json", "application/json", b"[]; alert(1)"),
    "CSS": Polyglot("a.css", "text/css", b"a{background:url(javascript:alert(1))}"),
    "a manifest": Polyglot("a.appcache", "text/cache-manifest", b"CACHE MANIFEST\n/\n"),
    "an event stream": Polyglot("a", "text/event-stream", b"data: a\n\n"),
    "a replacing stream": Polyglot(
        "a", "multipart/x-mixed-replace; boundary=b", b"--b\r\nContent-Type: text/html\r\n\r\n" + PAGE
    ),
    "a type with a header": Polyglot("a.txt", "text/plain\r\n\tX-Injected: yes", PAGE),
    "two types": Polyglot("a.png", "image/png, text/html", PAGE),
    "a type with parameters": Polyglot("a.png", 'image/png; a="text/html"; charset=utf-7', PAGE),
    "a type that is none": Polyglot("a", "text/html<", PAGE),
    "a type with a nul": Polyglot("a", "text/html\0", PAGE),
    "a type of every kind": Polyglot("a", "*/*", PAGE),
    "an empty type": Polyglot("a.html", "", PAGE),
    "a long type": Polyglot("a.html", "text/" + "h" * 3000, PAGE),
}
