"""This node in the cluster's format level: it says what it knows, and obeys what is in use.

Before it replays its journal or is there for others: a node that knows too little must not begin.
"""

from __future__ import annotations

import asyncio
import logging
import random

import msgspec

from octad.client.cluster.unknown_fields import with_unknown_fields
from octad.coordinator.schema.format_level import saying, too_old
from octad.coordinator.schema.records import FormatLevelRecord, StoreKeys
from octad.coordinator.store.interface import (
    ConfigStore,
    KeyValue,
    ModRevisionIs,
    Put,
    Revision,
    StoreUnavailable,
)
from octad.sharding.ids import NodeId, node_name
from octad.storage_node.operations import registry

# All nodes may restart at once with another octad, and all of them write one key.
RETRY_S = 0.2

log = logging.getLogger(__name__)


class TooOld(Exception):
    """The cluster's nodes write what this octad does not know."""


async def say_level(store: ConfigStore, keys: StoreKeys, node: NodeId) -> None:
    """Returns when the store has what this octad knows, waiting for it. Raises TooOld."""
    while True:
        try:
            if await _said(store, keys, node):
                return
        except StoreUnavailable as error:
            log.warning("the configuration store: %s", error)
        await asyncio.sleep(random.uniform(0.0, 2 * RETRY_S))


async def _said(store: ConfigStore, keys: StoreKeys, node: NodeId) -> bool:
    """False: others changed the key meanwhile."""
    entry = await store.get(keys.format_level)
    record = checked_level(node, entry)
    said = saying(record, node, registry.FORMAT_LEVEL)
    if said is None:
        return True
    if entry is None:
        value, revision = msgspec.json.encode(said), Revision(0)
    else:
        value, revision = with_unknown_fields(entry.value, said), entry.mod_revision
    unchanged = ModRevisionIs(keys.format_level, revision)
    return (await store.transact([unchanged], [Put(keys.format_level, value)])).succeeded


def checked_level(node: NodeId, entry: KeyValue | None) -> FormatLevelRecord:
    """Reads the store's level; raises TooOld if this octad knows less than is in use."""
    record = FormatLevelRecord()
    if entry is not None:
        record = msgspec.json.decode(entry.value, type=FormatLevelRecord)
    reason = too_old(record.level, registry.FORMAT_LEVEL)
    if reason is not None:
        raise TooOld(f"{node_name(node)}: {reason}")
    return record
