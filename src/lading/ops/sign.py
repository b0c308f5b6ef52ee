"""Signed URLs: by the store where it honours them, else by the signer of the registry."""

from lading.backends.protocols import Signer, Signs, StorageBackend
from lading.errors import ConfigurationError, NotSupported
from lading.record import FileRecord
from lading.worlds import World

LONGEST = 7 * 24 * 3600
"""Seconds; S3 and GCS honour no signature for longer."""


async def sign(
    backend: StorageBackend,
    record: FileRecord,
    world: World,
    *,
    signer: Signer | None,
    expires_in: int,
    for_upload: bool,
) -> str:
    """A URL that reads the object, or with `for_upload` writes it, for `expires_in` seconds, from 1 to 604,800.

    Raises:
        ConfigurationError: `expires_in` is out of that range.
        NotSupported: neither the store nor the registry's signer can do it.
    """
    if not 1 <= expires_in <= LONGEST:
        raise ConfigurationError(f"expires_in must be from 1 to {LONGEST} seconds (7 days), not {expires_in}")
    driver = backend.driver(world)
    if isinstance(driver, Signs):
        return await driver.sign(record.path, method="PUT" if for_upload else "GET", expires_in=expires_in)
    if signer is None:
        raise NotSupported(
            f"backend {backend.key!r} ({backend.protocol}) has no signed URLs of its own; "
            "add LadingPlugin(secret=...) to the application, which signs and serves for such backends"
        )
    return signer.sign(record, expires_in=expires_in, for_upload=for_upload)
