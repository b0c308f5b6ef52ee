"""What a browser needs beside the application, put onto it: a page, which is a client like any other.

Nobody logs in here, so serve it to yourself only.
"""

import secrets
from pathlib import Path
from urllib.parse import urlsplit

from litestar import Request, get
from litestar.datastructures import Cookie, State
from litestar.response import File
from litestar.static_files import create_static_files_router

from examples.documents.app import VISITOR, app
from lading import FileObject

STATIC = Path(__file__).with_name("static")


def store() -> str:
    """The origin that signed URLs lead to; `""` where that is this application."""
    url = urlsplit(FileObject("local", "x", content=b"", to_filename="x").sign(for_upload=True))
    return f"{url.scheme}://{url.netloc}" if url.netloc else ""


def policy() -> str:
    """The page's Content-Security-Policy: scripts and styles of its own, files from where they lie, and no more."""
    files = f"'self' {store()}".strip()
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors 'none'; connect-src {files}; img-src {files} data:; media-src {files}"
    )


@get("/", include_in_schema=False)
async def index(request: Request[object, object, State]) -> File:
    page = File(STATIC / "index.html", filename="index.html", media_type="text/html", content_disposition_type="inline")
    page.headers |= {
        "content-security-policy": policy(),
        "cross-origin-opener-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "cache-control": "no-cache",
    }
    if VISITOR not in request.cookies:
        page.cookies.append(Cookie(VISITOR, value=secrets.token_urlsafe(), httponly=True, samesite="strict"))
    return page


for handler in (index, create_static_files_router("/static", [STATIC], include_in_schema=False)):
    app.register(handler)
