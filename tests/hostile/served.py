"""The application on local disk, for `uvicorn --factory tests.hostile.served:make`."""

import os
from datetime import timedelta
from pathlib import Path

from litestar import Litestar

from lading.backends.obstore import ObstoreBackend
from tests.hostile.app import make_app, storages

PLACE = "LADING_HOSTILE_PLACE"
"""The variable that names the directory, which holds `store/` and `test.sqlite`."""


def make() -> Litestar:
    place = Path(os.environ[PLACE])
    storages.register_backend(ObstoreBackend("store", (place / "store").as_uri()))
    return make_app(place / "test.sqlite", sweep_every=timedelta(seconds=1))
