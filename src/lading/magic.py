"""libmagic as a detector, through python-magic: `pip install 'lading[magic]'`."""

from importlib import import_module
from types import ModuleType

from lading.errors import MissingDependency
from lading.sniffing import Detector


def detector() -> Detector:
    """A detector that asks libmagic: for `detect(..., detector=...)`, which takes one by itself where it can be had.

    Its database is loaded here, once: keep the detector. Many threads may call it; python-magic lets in one at a time.
    A call takes 20 to 600 µs. Where the system has no libmagic the one of `pylibmagic` serves, if that is installed;
    to import that package changes the environment of the process (`MAGIC`, `LD_LIBRARY_PATH`).

    Raises:
        MissingDependency: python-magic is missing, or libmagic, or its database, or another `magic` is in their place.
    """
    magic = _import()
    try:
        cookie = magic.Magic(mime=True)
    except magic.MagicException as error:
        raise MissingDependency("the database of libmagic", "magic") from error

    def ask(head: bytes) -> str | None:
        try:
            return str(cookie.from_buffer(head))
        except magic.MagicException:
            return None

    return ask


def _import() -> ModuleType:
    try:
        import magic  # noqa: PLC0415  # optional
    except ImportError:
        try:
            import_module("pylibmagic")  # which makes its libmagic findable
            magic = import_module("magic")
        except ImportError as error:
            raise MissingDependency("python-magic, or the libmagic that it loads,", "magic") from error
    if not hasattr(magic, "MagicException"):  # the `magic` module of the project `file` has another interface
        raise MissingDependency("python-magic, in whose place is another module called magic,", "magic")
    return magic
