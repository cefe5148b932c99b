"""An index over a simulated RocksDB, which forgets what was not flushed."""

from __future__ import annotations

import random
from pathlib import Path

from tests.harness.simulated_rocksdb import SimulatedDatabases

from octad.storage_node.index.counted_index import CountedIndex

_DIRECTORY = Path("/data/index")


class TwinIndex(CountedIndex):
    """`after_crash` gives what a restart finds: all up to a flush, and any batches after it."""

    def __init__(self, databases: SimulatedDatabases | None = None) -> None:
        self.databases = databases or SimulatedDatabases()
        super().__init__(_DIRECTORY, opens=self.databases.open)

    def after_crash(self, rng: random.Random) -> TwinIndex:
        self.databases.crash(rng)
        return TwinIndex(self.databases)
