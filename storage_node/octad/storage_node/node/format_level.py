"""This node in the cluster's format level: it says what it knows, and obeys what is in use.

Before it replays its journal or is there for others: a node that knows too little must not begin.
Later, if the store is put back to an older state: a level that was in use is in use for good.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

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
from octad.storage_node.node.this_node import ThisNode
from octad.storage_node.operations import registry

# All nodes may restart at once with another octad, and all of them write one key.
RETRY_S = 0.2
FILLED_POLL_S = 1.0  # Between two looks whether a store that has lost its cluster has one again.

log = logging.getLogger(__name__)


class TooOld(Exception):
    """The cluster's nodes write what this octad does not know."""


class LevelInUse:
    """Follows the level in use, and tells it to `use`; says it again where the store is behind."""

    def __init__(self, this: ThisNode, use: Callable[[int], None]) -> None:
        self._this = this
        self._use = use
        self._level = 1
        self._is_saying = False

    def on_change(self, entry: KeyValue | None) -> None:
        """The store has `entry` under `format-level`."""
        node = self._this.id
        try:
            record = checked_level(node, entry)
        except TooOld as error:
            self._this.fail(error)
            return
        self._level = max(self._level, record.level)
        self._use(self._level)
        behind = saying(record, node, registry.FORMAT_LEVEL, self._level)
        if behind is not None and not self._is_saying:
            self._is_saying = True
            log.warning(
                "the configuration store was put back, to format level %d; %d is in use",
                *(record.level, self._level),
            )
            self._this.run(self._say_again())

    async def _say_again(self) -> None:
        this, level = self._this, self._level
        try:
            await _filled(this.store, this.keys)
            await say_level(this.store, this.keys, this.id, level)
        except TooOld as error:
            this.fail(error)
        finally:
            self._is_saying = False


async def _filled(store: ConfigStore, keys: StoreKeys) -> None:
    """Returns when there is a cluster: a store that has lost it stays empty for who fills it."""
    while True:
        try:
            if (await store.range(keys.pools)).entries:
                return
        except StoreUnavailable as error:
            log.warning("the configuration store: %s", error)
        await asyncio.sleep(FILLED_POLL_S)


async def say_level(store: ConfigStore, keys: StoreKeys, node: NodeId, in_use: int = 1) -> None:
    """Returns when the store has what this octad knows, waiting for it. Raises TooOld.

    `in_use`: a level that this node knows to be in use, whatever the store says.
    """
    while True:
        try:
            if await _said(store, keys, node, in_use):
                return
        except StoreUnavailable as error:
            log.warning("the configuration store: %s", error)
        await asyncio.sleep(random.uniform(0.0, 2 * RETRY_S))


async def _said(store: ConfigStore, keys: StoreKeys, node: NodeId, in_use: int) -> bool:
    """False: others changed the key meanwhile."""
    entry = await store.get(keys.format_level)
    record = checked_level(node, entry, in_use)
    said = saying(record, node, registry.FORMAT_LEVEL, in_use)
    if said is None:
        return True
    if entry is None:
        value, revision = msgspec.json.encode(said), Revision(0)
    else:
        value, revision = with_unknown_fields(entry.value, said), entry.mod_revision
    unchanged = ModRevisionIs(keys.format_level, revision)
    return (await store.transact([unchanged], [Put(keys.format_level, value)])).succeeded


def checked_level(node: NodeId, entry: KeyValue | None, in_use: int = 1) -> FormatLevelRecord:
    """Reads the store's level; raises TooOld if this octad knows less than that or `in_use`."""
    record = FormatLevelRecord()
    if entry is not None:
        record = msgspec.json.decode(entry.value, type=FormatLevelRecord)
    reason = too_old(max(record.level, in_use), registry.FORMAT_LEVEL)
    if reason is not None:
        raise TooOld(f"{node_name(node)}: {reason}")
    return record
