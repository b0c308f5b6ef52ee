"""lading in a Litestar application: signed URLs for every backend, and files in responses."""

from lading.litestar.plugin import LadingPlugin

__all__ = ["LadingPlugin"]
