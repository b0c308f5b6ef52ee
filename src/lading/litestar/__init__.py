"""lading in a Litestar application: files in and out of handlers, signed URLs for every store, direct uploads."""

from lading.litestar.config import DirectUploads, LadingConfig
from lading.litestar.downloads import Download
from lading.litestar.plugin import LadingPlugin
from lading.orm.policies import UploadTo

__all__ = ["DirectUploads", "Download", "LadingConfig", "LadingPlugin", "UploadTo"]
