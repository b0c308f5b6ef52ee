"""Signed URLs: by the store where it honours them and they say enough, else by the signer of the registry."""

import msgspec

from lading.backends.protocols import LONGEST as LONGEST
from lading.backends.protocols import Signer, Signs, StorageBackend
from lading.errors import ConfigurationError, NotSupported
from lading.record import Disposition, FileRecord
from lading.worlds import World


class Terms(msgspec.Struct, frozen=True):
    """What a signed URL is for, for how long, and what it says of the file.

    Attributes:
        expires_in: seconds, from 1 to 604,800 (7 days), or to what the signer of the registry allows.
        for_upload: it writes the object, where else it reads it.
        filename, disposition, content_type: see `Signer.sign`.
    """

    expires_in: int = 3600
    for_upload: bool = False
    filename: str | None = None
    disposition: Disposition | None = None
    content_type: str | None = None

    @property
    def overrides(self) -> bool:
        """Whether it says something of the file that the record does not."""
        return not (self.filename is self.disposition is self.content_type is None)


async def sign(
    backend: StorageBackend, record: FileRecord, world: World, terms: Terms, *, signer: Signer | None
) -> str:
    """A URL on these terms.

    Raises:
        ConfigurationError: `expires_in` is out of range, or an upload is to be served under another name or type.
        NotSupported: neither the store nor the registry's signer can do it.
    """
    longest = LONGEST if signer is None else min(LONGEST, signer.longest)
    if not 1 <= terms.expires_in <= longest:
        raise ConfigurationError(f"expires_in must be from 1 to {longest} seconds, not {terms.expires_in}")
    if terms.for_upload and terms.overrides:
        raise ConfigurationError("filename, disposition and content_type are for URLs that read, not for uploads")
    driver = backend.driver(world)
    if signer is not None and (signer.always or terms.overrides or not isinstance(driver, Signs)):
        return _own(signer, record, terms)
    if not isinstance(driver, Signs):
        raise NotSupported(
            f"backend {backend.key!r} ({backend.protocol}) has no signed URLs of its own; "
            "add LadingPlugin to the application, or set storages.signer and serve what it signs"
        )
    if terms.overrides:
        raise NotSupported(
            f"the signed URLs of backend {backend.key!r} ({backend.protocol}) serve a file as it was stored; for "
            "another filename, disposition or content_type add LadingPlugin to the application, or set storages.signer"
        )
    return await driver.sign(record.path, method="PUT" if terms.for_upload else "GET", expires_in=terms.expires_in)


def _own(signer: Signer, record: FileRecord, terms: Terms) -> str:
    if terms.for_upload:
        return signer.sign_put(record, expires_in=terms.expires_in)
    return signer.sign(
        record,
        expires_in=terms.expires_in,
        filename=terms.filename,
        disposition=terms.disposition,
        content_type=terms.content_type,
    )
