"""A store and a database to attack, and a look at them when the attack is over."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from lading.backends.obstore import ObstoreBackend
from tests.hostile.app import Base, storages
from tests.hostile.house import House, Listener


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The extra legs of CI leave the attacks out: what holds them off is the same on every Python."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(params=["memory", "local"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    """On both stores; afterwards nothing lies there that no row and no entry of the outbox names."""
    root = None
    if request.param == "local":
        root = tmp_path / "store"
        root.mkdir()
    storages.register_backend(ObstoreBackend("store", "memory://" if root is None else root.as_uri()))
    database = tmp_path / "test.sqlite"
    engine = create_engine(f"sqlite:///{database}")
    Base.metadata.create_all(engine)
    house = House(database, root, engine)
    listener = Listener(house.troubles)
    logging.getLogger().addHandler(listener)
    try:
        yield house
        assert house.faults() == []
    finally:
        logging.getLogger().removeHandler(listener)
        engine.dispose()
        storages.clear_backends()
        storages.signer = None
