"""What a machine does about a damaged index: the steps around `IndexRebuild`, on simulated files.

In a node that ships these are a process of its own and names in a file system
(`rebuild/index_repair.py`); the reading of the journal, the catching up and the succession are the
node's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.journal.journal_errors import JournalDamage
from octad.storage_node.journal.record_format import Position
from octad.storage_node.rebuild import index_repair
from octad.storage_node.rebuild.index_rebuild import IndexRebuild
from octad.storage_node.rebuild.index_repair import RebuildFailed

if TYPE_CHECKING:
    from tests.simulation.cluster.machines.machine import SimulatedMachine

OPEN_FILES = 128
ROUNDS = 3


class IndexFiles:
    """Of one machine, as long as it has its disk."""

    def __init__(self, machine: SimulatedMachine) -> None:
        self.machine = machine
        self.open = partial(CountedIndex, opens=machine.databases.open)
        self._made = 0

    @property
    def current(self) -> Path:
        """The one that is in use, or is opened next."""
        return self._complete() or self.machine.config.data / "index"

    def is_marked(self) -> bool:
        mark = self.machine.config.data / index_repair.MARK
        return mark.name in self.machine.disk.names(mark.parent)

    async def rebuild(self, data: Path, durable_to: Callable[[], Position] | None) -> Path:
        """Returns where it has left a complete index. Raises RebuildFailed."""
        self._made += 1
        machine, target = self.machine, data / f"index.made.{self._made}"
        index = self.open(target, OPEN_FILES)
        try:
            work = partial(IndexRebuild, machine.disk, data / "journal", None, index)
            rebuilding = await asyncio.to_thread(work)
            for _ in range(ROUNDS):
                until = None if durable_to is None else durable_to()
                await asyncio.to_thread(rebuilding.read_on, until)
            await asyncio.to_thread(rebuilding.finish)
            index.close()
        except JournalDamage as error:
            machine.databases.remove(target)
            raise RebuildFailed(str(error), others_may_fill=error.others_may_fill) from error
        rebuilt = data / f"index.rebuilt.{self._made}"
        machine.databases.rename(target, rebuilt)
        return rebuilt

    async def repair(self) -> None:
        """Before the node begins: another one in the place of one that is known to be damaged."""
        machine, data = self.machine, self.machine.config.data
        if not self.is_marked():
            return
        if self._complete() is None:
            await self.rebuild(data, None)
        made = self._complete()
        assert made is not None
        machine.databases.remove(data / "index")
        machine.databases.rename(made, data / "index")
        machine.disk.unlink(data / index_repair.MARK)
        machine.disk.sync_directory(data)

    def _complete(self) -> Path | None:
        """One that was made and not given up."""
        made = [
            path
            for path in self.machine.databases.files
            if path.name.startswith("index.rebuilt.") and path.suffix != ".given-up"
        ]
        return made[-1] if made else None
