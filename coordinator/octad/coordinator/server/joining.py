"""Lets nodes join the cluster: checks what they ask for, and gives new ones their ids."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import msgspec

from octad.coordinator.membership.admission import ADDRESS_IN_USE, Admission, JoinRefused, admit
from octad.coordinator.membership.reachability_check import check_reach, is_there
from octad.coordinator.mirror.cluster_mirror import ClusterMirror
from octad.coordinator.placement.placement import Placement
from octad.coordinator.schema.cluster_view import decode_record
from octad.coordinator.schema.join_messages import REGION, JoinRequest
from octad.coordinator.schema.records import IdentityRecord, NodeRecord, StoreKeys
from octad.coordinator.server.coordinator_config import CoordinatorConfig
from octad.coordinator.server.format_levels import FormatLevels
from octad.coordinator.store.interface import (
    ConfigStore,
    Delete,
    KeyValue,
    ModRevisionIs,
    Put,
    Revision,
    StoreUnavailable,
)
from octad.coordinator.store.open_store import StoreAddress
from octad.sharding.ids import NodeId

_JOIN_ATTEMPTS = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Joined:
    """The answer to a node that was let in."""

    node: NodeId
    region: str
    store: StoreAddress


class Joining:
    """See the module. Any coordinator does it, the leader or not."""

    def __init__(
        self,
        store: ConfigStore,
        keys: StoreKeys,
        config: CoordinatorConfig,
        cluster: ClusterMirror,
        placement: Placement,
        levels: FormatLevels,
    ) -> None:
        self._store = store
        self._keys = keys
        self._config = config
        self._cluster = cluster
        self._placement = placement
        self._levels = levels

    async def join(self, request: JoinRequest) -> Joined:
        """Let a node in; raises JoinRefused, StoreUnavailable, BadRecord."""
        for _ in range(_JOIN_ATTEMPTS):
            # In this order: every node with an id from before `last` was read is in the view.
            last = await self._store.get(self._keys.last_node_id)
            await self._cluster.refresh()
            last_node = NodeId(decode_record(last, int) if last else 0)
            try:
                cluster = self._config.token.cluster
                admission = admit(cluster, request, self._cluster.view(), last_node)
            except JoinRefused as refused:
                if refused.code != ADDRESS_IN_USE or not await self._withdraw_previous(request):
                    raise
                continue
            self._placement.check_join(admission.node)
            self._levels.check_join(request.format_level)
            if self._config.checks_reach and admission.is_new:
                await check_reach(request, self._config.address)
            if not admission.is_new:
                await self._levels.put_back(admission.node, request.format_level)
            if not admission.is_new or await self._record(admission, request, last, last_node):
                log.info("node n%d joined from %s", admission.node, request.rpc_address)
                return Joined(admission.node, REGION, self._config.store_address)
        raise StoreUnavailable("too many nodes join at the same time")

    async def _withdraw_previous(self, request: JoinRequest) -> bool:
        """The former process at the RPC address is gone: its lease need not end by itself."""
        nodes = self._cluster.view().nodes.values()
        before = [record for record in nodes if record.rpc_address == request.rpc_address]
        if not before or not await is_there(request):
            return False
        for record in before:
            entry = await self._store.get(self._keys.node(record.id))
            if entry is not None and decode_record(entry, NodeRecord) == record:
                unchanged = ModRevisionIs(entry.key, entry.mod_revision)
                await self._store.transact([unchanged], [Delete(entry.key)])
                log.info("node n%d is gone: a new one is at %s", record.id, record.rpc_address)
        return True

    async def _record(
        self, admission: Admission, request: JoinRequest, last: KeyValue | None, last_node: NodeId
    ) -> bool:
        """Hand out a new id, unless someone else was given one meanwhile."""
        identity = IdentityRecord(admission.node, request.incarnation)
        key = self._keys.identity(admission.node)
        outcome = await self._store.transact(
            [
                ModRevisionIs(self._keys.last_node_id, last.mod_revision if last else Revision(0)),
                ModRevisionIs(key, Revision(0)),
            ],
            [
                Put(key, msgspec.json.encode(identity)),
                Put(self._keys.last_node_id, msgspec.json.encode(max(last_node, admission.node))),
            ],
        )
        return outcome.succeeded
