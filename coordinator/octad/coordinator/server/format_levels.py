"""The leader raises the format level in use once every node knows a higher one."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from octad.client.cluster.unknown_fields import with_unknown_fields
from octad.coordinator.membership.admission import JoinRefused
from octad.coordinator.placement.placement import Placement
from octad.coordinator.placement.placement_view import PlacementView
from octad.coordinator.schema.cluster_view import decode_record
from octad.coordinator.schema.format_level import CODE, level_of_all, saying, too_old
from octad.coordinator.schema.placement_records import PlacementKeys
from octad.coordinator.schema.records import FormatLevelRecord, StoreKeys
from octad.coordinator.store.interface import (
    ConfigStore,
    KeyValue,
    ModRevisionIs,
    Put,
    Revision,
    StoreUnavailable,
)
from octad.coordinator.store.mirror import Mirror
from octad.sharding.ids import NodeId

log = logging.getLogger(__name__)


class FormatLevels:
    """See the module and `schema/format_level.py`. `on_change`: the leader is to look again."""

    def __init__(
        self,
        store: ConfigStore,
        keys: StoreKeys,
        mirror: Mirror,
        placement: Placement,
        on_change: Callable[[], None],
    ) -> None:
        self._store = store
        self._keys = keys
        self._placement = placement
        self._on_change = on_change
        self._mirror = mirror

    def start(self) -> None:
        """Once the mirror has started."""
        settings = PlacementKeys(self._keys).settings
        self._mirror.subscribe(
            lambda _key, _entry: self._on_change(), self._keys.format_level, settings
        )

    def check_join(self, known: int) -> None:
        """Raises JoinRefused, BadRecord. The node looks again before it writes anything."""
        self._check(_decoded(self._mirror.entries.get(self._keys.format_level)), known)

    def _check(self, record: FormatLevelRecord, known: int) -> None:
        reason = too_old(record.level, known)
        if reason is not None:
            raise JoinRefused(CODE, reason)

    async def put_back(self, node: NodeId, known: int) -> None:
        """`node` joins, and may run an older octad than when it last reported its level.

        Raises JoinRefused, StoreUnavailable, BadRecord.
        """
        entry = await self._store.get(self._keys.format_level)
        record = _decoded(entry)
        if entry is None or record.known.get(node, 1) <= known:
            return
        self._check(record, known)
        less = saying(record, node, known)
        assert less is not None
        unchanged = ModRevisionIs(entry.key, entry.mod_revision)
        value = Put(entry.key, with_unknown_fields(entry.value, less))
        if not (await self._store.transact([unchanged], [value])).succeeded:
            raise StoreUnavailable(f"{entry.key} was changed by others")

    async def raise_level(self, leadership: ModRevisionIs) -> None:
        """Raises the level to what all nodes know, unless one joins or changes its level meanwhile.

        Raises StoreUnavailable, BadRecord.
        """
        record = _decoded(self._mirror.entries.get(self._keys.format_level))
        if max(record.known.values(), default=1) <= record.level:
            return  # Mostly: no node knows more.
        if _known_by_all(record, self._placement.view()) <= record.level:
            return
        # In this order: every node with an id from before `last` was read is in the view.
        last = await self._store.get(self._keys.last_node_id)
        view = await self._placement.fresh_view()
        entry = await self._store.get(self._keys.format_level)
        record = _decoded(entry)
        level = _known_by_all(record, view)
        if entry is None or level <= record.level:
            return
        value = with_unknown_fields(entry.value, msgspec.structs.replace(record, level=level))
        last_revision = last.mod_revision if last is not None else Revision(0)
        unchanged = [
            leadership,
            ModRevisionIs(self._keys.last_node_id, last_revision),
            ModRevisionIs(entry.key, entry.mod_revision),
        ]
        if (await self._store.transact(unchanged, [Put(entry.key, value)])).succeeded:
            log.info("format level %d is in use: all nodes know it, and none may know less", level)


def _decoded(entry: KeyValue | None) -> FormatLevelRecord:
    return FormatLevelRecord() if entry is None else decode_record(entry, FormatLevelRecord)


def _known_by_all(record: FormatLevelRecord, view: PlacementView) -> int:
    cluster = view.cluster
    members = [node for node in cluster.identities if not view.settings_of(node).removed]
    return level_of_all(record, members, cluster.nodes)
