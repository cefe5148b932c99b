"""A supervisor's word that a node's process has ended, so that no one waits for its leases to end.

Only the parent that has reaped the process may write it, before it starts another one. The
record names the fence that the process wrote; the next process writes another first of all, and
every change of a row that relies on the record compares the fence.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from octad.coordinator.schema.records import DeathRecord, FenceRecord, StoreKeys
from octad.coordinator.store.interface import ConfigStore, ModRevisionIs, Put, StoreUnavailable
from octad.sharding.ids import NodeId, node_name

RECORD_S_MAX = 1.0  # Without the record the others wait a little; the node must not wait longer.

log = logging.getLogger(__name__)


async def record_death(store: ConfigStore, keys: StoreKeys, node: NodeId) -> None:
    """No process of `node` is left. A store that does not answer is passed over."""
    try:
        async with asyncio.timeout(RECORD_S_MAX):
            fence = await store.get(keys.fence(node))
            if fence is None:
                return
            record = DeathRecord(msgspec.json.decode(fence.value, type=FenceRecord))
            await store.transact(
                [ModRevisionIs(fence.key, fence.mod_revision)],
                [Put(keys.death(node), msgspec.json.encode(record))],
            )
    except (StoreUnavailable, TimeoutError) as error:
        log.warning("the end of %s is not recorded: %s", node_name(node), error)
