"""Whether a node's disk is as new as the cluster has seen it.

Each run of a node has a number, one more than the last: it is durable on the disk first, and in the
configuration store (`runs/<node>`) before the node does anything else. So a disk that has a lower
number than the store is an older copy, put back: it lacks what the node has acknowledged since, and
the others would take it for one that has everything.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.interface import (
    ConfigStore,
    ModRevisionIs,
    Put,
    Revision,
    StoreUnavailable,
)
from octad.sharding.ids import NodeId
from octad.storage_node.journal.data_directory import DataDirectory

RETRY_S = 0.2

log = logging.getLogger(__name__)


async def begin_run(
    directory: DataDirectory, node: NodeId, store: ConfigStore, keys: StoreKeys
) -> None:
    """Number this run on both sides, waiting for the store. Raises RolledBack."""
    key = keys.run(node)
    while True:
        try:
            known = await store.get(key)
            directory.begin_run(0 if known is None else msgspec.json.decode(known.value, type=int))
            revision = Revision(0) if known is None else known.mod_revision
            numbered = Put(key, msgspec.json.encode(directory.run))
            if (await store.transact([ModRevisionIs(key, revision)], [numbered])).succeeded:
                return
        except StoreUnavailable as error:
            log.warning("the configuration store: %s", error)
            await asyncio.sleep(RETRY_S)
