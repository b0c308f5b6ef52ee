"""A process of the soak that sweeps: `python -m tests.soak.sweeping ORDERS`, until SIGTERM, or SIGKILL."""

import asyncio
import random
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import msgspec
from sqlalchemy import update

from lading.orm.findings import Orphan
from lading.orm.outbox import Outbox
from lading.sweeper import Sweeper
from tests.soak.models import FAMILIES, Place
from tests.soak.worker import Orders, is_expected

PAUSE = 0.2
LEASE = timedelta(seconds=10)
GRACE = timedelta(seconds=60)
"""Longer than any transaction of a worker takes."""

ORPHANS = 0.05
"""How often the sweeper also looks for orphans, of the times that it drains."""


class Sweeping:
    """Drains, again and again, whatever fails."""

    def __init__(self, orders: Orders) -> None:
        Path(orders.journal).touch()
        self.place = orders.place
        self.chance = random.Random(orders.seed)
        self.stopping = False

    def run(self) -> None:
        """Sweep until somebody says stop."""
        engine = self.place.engine()
        sweepers = [Sweeper(engine, family.metadata) for family in FAMILIES]
        while not self.stopping:
            for sweeper in sweepers:
                try:
                    sweeper.drain(lease=LEASE)
                    if self.chance.random() < ORPHANS:
                        sweeper.orphans(grace=GRACE, delete=True)
                except Exception as error:
                    if not is_expected(error):
                        raise
            time.sleep(PAUSE)
        engine.dispose()

    async def run_async(self) -> None:
        """The async twin of `run`."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stop)
        engine = self.place.async_engine()
        sweepers = [Sweeper(engine, family.metadata) for family in FAMILIES]
        while not self.stopping:
            for sweeper in sweepers:
                try:
                    await sweeper.drain_async(lease=LEASE)
                    if self.chance.random() < ORPHANS:
                        await sweeper.orphans_async(grace=GRACE, delete=True)
                except Exception as error:
                    if not is_expected(error):
                        raise
            await asyncio.sleep(PAUSE)
        await engine.dispose()

    def stop(self, *_: object) -> None:
        """Finish what is under way."""
        self.stopping = True


def sweep(place: Place) -> list[str]:
    """One sweep after everything: orphans of any age, and what waits in the outbox however long it was to wait.

    Returns:
        What lading itself finds wrong with rows, before and after.
    """
    place.register()
    engine = place.engine()
    found: list[object] = []
    for family in FAMILIES:
        sweeper = Sweeper(engine, family.metadata)
        findings = sweeper.orphans(grace=timedelta(0), delete=True).findings
        found += [finding for finding in findings if not isinstance(finding, Orphan)]
        outbox = Outbox.of(family.metadata)
        assert outbox is not None
        with engine.begin() as connection:
            connection.execute(update(outbox.table).values(not_before=outbox.table.c.created_at))
        sweeper.drain()
        found += sweeper.check(deep=True).findings
    engine.dispose()
    return [str(finding) for finding in found]


def make_tables(place: Place) -> None:
    """Make the tables, with triggers and indexes."""
    engine = place.engine()
    for family in FAMILIES:
        family.metadata.create_all(engine)
    engine.dispose()


def main() -> None:
    orders = msgspec.json.decode(sys.argv[1], type=Orders)
    orders.place.register()
    sweeping = Sweeping(orders)
    if orders.is_async:
        asyncio.run(sweeping.run_async())
    else:
        signal.signal(signal.SIGTERM, sweeping.stop)
        sweeping.run()


if __name__ == "__main__":
    main()
