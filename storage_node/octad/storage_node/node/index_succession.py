"""A node whose index is damaged goes on without it, while another is made from its journal.

damage ─ rows are lost ─ made beside, from the journal ─ catches up ─ takes the old one's place
                            └ the journal is damaged, too ─ the others fill this node anew
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from octad.coordinator.schema.node_report import INDEX_LOST, INDEX_REBUILDING, INDEX_WAITING
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index import IndexDamage, IndexDamaged, IndexFailed
from octad.storage_node.journal.journal_errors import JournalDamage
from octad.storage_node.node.node_engine import Engine
from octad.storage_node.node.node_failures import NOT_FOR_OTHERS
from octad.storage_node.node.this_node import ThisNode
from octad.storage_node.rebuild import index_repair
from octad.storage_node.rebuild.filling_anew import BeginsAnew, FillingAnew
from octad.storage_node.replication.host.index_catch_up import CatchUp
from octad.storage_node.replication.host.shard_host import ShardHost

CATCH_UP_PAUSE_S = 0.02
CATCH_UPS_MAX = 100  # One does, unless a log begins anew meanwhile, or something is wrong.

log = logging.getLogger(__name__)


class IndexSuccession:
    """See the module. It learns of the damage from the index itself.

    `state` is the index's state for reports, `anew` the progress of beginning anew; `intact` is set
    when another index has taken over.
    """

    def __init__(self, this: ThisNode, engine: Engine, host: ShardHost) -> None:
        self._this = this
        self._engine = engine
        self._host = host
        self.state = ""
        self.intact = asyncio.Event()
        self.anew = FillingAnew(this.store, this.identity, this.directory.path, this.machine.disk)
        engine.index.on_damage = partial(_call_in, asyncio.get_running_loop(), self._lose_rows)

    def _lose_rows(self, damage: str) -> None:
        """Go on without the index; meanwhile another is made from the journal."""
        log.error(
            "%s: nothing is lost: the index is made anew from the journal, and until"
            " then other nodes answer for this one's data",
            damage,
        )
        self.state = INDEX_REBUILDING
        self.intact.clear()
        self._host.lose_rows()
        self._this.run(self._make_another(damage), name="another index")

    async def _make_another(self, why: str) -> None:
        damaged, journal = self._engine.index.directory, self._engine.journal
        for pause_s in index_repair.pauses():
            try:
                await asyncio.to_thread(index_repair.mark, journal.disk, damaged, why)
                await self._go_on_with_another()
                break
            except (index_repair.RebuildFailed, JournalDamage) as error:
                self.state = INDEX_LOST
                log.error("no index can be made from the journal in %s: %s", damaged.parent, error)
                await self._begin_anew(may_be_filled=error.others_may_fill)
                return
            except (index_repair.RebuildDelayed, IndexDamage, IndexFailed, OSError) as error:
                self.state = INDEX_WAITING
                log.warning("making an index failed: %s; trying again in %g s", error, pause_s)
                await asyncio.sleep(pause_s)
                self.state = INDEX_REBUILDING
            except Exception as error:  # A bug; the node would wait for an index for ever.
                self._this.fail(error)
                return
        self.state = ""
        self.intact.set()
        log.info("the index is complete again: this node serves reads, and its copies count")

    async def _begin_anew(self, *, may_be_filled: bool) -> None:
        """Index and journal are damaged: once the others have all data, they fill this node.

        Meanwhile it acknowledges writes, durably.
        """
        if not may_be_filled:
            self.anew.waits_for = NOT_FOR_OTHERS
            return
        try:
            await self.anew.decided()
        except Exception as error:  # The disk, or a bug; it would wait for ever.
            self._this.fail(error)
        else:
            self._this.fail(BeginsAnew())

    async def _go_on_with_another(self) -> None:
        """Build another index and switch to it; if that raises, the old one remains."""
        this, journal, machine = self._this, self._engine.journal, self._this.machine
        made = await machine.rebuild_index(this.directory.path, lambda: journal.durable_to)
        index: CountedIndex | None = None
        try:
            index = await asyncio.to_thread(machine.open_index, made, self._engine.index_files_max)
            await go_on_with(CatchUp(this.id, journal, index), self._host)
        except IndexDamaged as error:  # The new index is damaged, too.
            await asyncio.to_thread(index_repair.give_up, journal.disk, made)
            raise IndexDamage(str(error)) from error
        except (JournalDamage, IndexDamage, IndexFailed, OSError):
            if index is not None:
                index.note_damage("it is given up")
                index.close()
            await asyncio.to_thread(index_repair.give_up, journal.disk, made)
            raise


async def go_on_with(successor: CatchUp, host: ShardHost) -> None:
    """Switch `host` to an index that was made meanwhile, whatever is written to the journal.

    Raises IndexFailed; and as `CatchUp.read_on` does.
    """
    for _ in range(CATCH_UPS_MAX):
        await asyncio.to_thread(successor.read_on)
        successor.read_on()  # Not in a thread: nothing is applied between this and the switch.
        if host.go_on_with(successor):
            return
        await asyncio.sleep(CATCH_UP_PAUSE_S)
    raise IndexFailed("the new index does not catch up with what is applied")


def _call_in(loop: asyncio.AbstractEventLoop, call: Callable[[str], None], damage: str) -> None:
    """Called from the thread that met the damage; the reaction comes later, on the loop."""
    loop.call_soon_threadsafe(call, damage)
