"""Carries out what an operator wants of shards whose members are gone for good.

Any coordinator does it: each shard is one transaction that compares everything it is decided from.
Every configuration that is changed, and what that may lose, is logged.
"""

from __future__ import annotations

import logging
import secrets

from octad.coordinator.mirror.cluster_mirror import ClusterMirror
from octad.coordinator.recovery.forced_recovery import (
    CannotRecover,
    ForcedRecovery,
    forced_recovery,
    is_orphaned,
    recovery_transaction,
)
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.schema.recovery_messages import (
    NotRecovered,
    RecoverAnswer,
    RecoveredShard,
    RecoverRequest,
)
from octad.coordinator.store.interface import ConfigStore
from octad.sharding.ids import ShardId, node_name, parse_shard_name, shard_name
from octad.sharding.map.shard_map import decode_configuration

log = logging.getLogger(__name__)


class ShardRecovery:
    """See the module."""

    def __init__(self, store: ConfigStore, keys: StoreKeys, cluster: ClusterMirror) -> None:
        self._store = store
        self._keys = keys
        self._cluster = cluster

    async def recover(self, request: RecoverRequest) -> RecoverAnswer:
        """Raises StoreUnavailable, BadRecord; changes made until then remain."""
        await self._cluster.refresh()
        view = self._cluster.view()
        names = list(request.shards) or [
            shard_name(shard)
            for shard, configuration in sorted(view.configurations.items())
            if is_orphaned(configuration, view.nodes)
        ]
        recovered: list[RecoveredShard] = []
        refused: list[NotRecovered] = []
        for name in names:
            try:
                recovered.append(await self._recover(_shard_of(name), dry_run=request.dry_run))
            except CannotRecover as error:
                refused.append(NotRecovered(name, str(error)))
        return RecoverAnswer(request.dry_run, tuple(recovered), tuple(refused))

    async def _recover(self, shard: ShardId, *, dry_run: bool) -> RecoveredShard:
        """Raises CannotRecover."""
        entry = await self._store.get(self._keys.shard(shard))
        if entry is None:
            raise CannotRecover("there is no such shard")
        live = self._cluster.view().nodes
        recovery = forced_recovery(decode_configuration(entry.value), live)
        if not dry_run:
            boot = f"recovery-{secrets.token_hex(4)}"
            transaction = recovery_transaction(self._keys, entry, recovery, live, boot)
            outcome = await self._store.transact(*transaction)
            if not outcome.succeeded:
                raise CannotRecover("its configuration or the nodes have just changed; look again")
            log.warning(
                "shard %s is recovered by force: %s leads, complete up to seq %d; gone: %s",
                shard_name(shard),
                node_name(recovery.chosen.node),
                recovery.chosen.upto,
                " ".join(node_name(node) for node in recovery.gone),
            )
        return _told(shard, recovery)


def _told(shard: ShardId, recovery: ForcedRecovery) -> RecoveredShard:
    return RecoveredShard(
        shard_name(shard),
        node_name(recovery.chosen.node),
        recovery.chosen.upto,
        tuple(node_name(node) for node in recovery.gone),
        tuple(node_name(node) for node in recovery.given_up),
    )


def _shard_of(name: str) -> ShardId:
    try:
        return parse_shard_name(name)
    except ValueError as error:
        raise CannotRecover(str(error)) from error
