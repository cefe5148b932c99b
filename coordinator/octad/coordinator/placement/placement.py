"""Placement in a coordinator: everyone answers and takes requests, the leader writes plans.

It keeps the store's records about placement in memory and lets `PlacementDriver` decide after every
change. It holds nothing that the store does not, so it may be killed at any time.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import msgspec

from octad.client.runtime.address import parse_address
from octad.client.runtime.background_task import start_background, stop_background
from octad.coordinator.membership.admission import JoinRefused
from octad.coordinator.mirror.cluster_mirror import ClusterMirror
from octad.coordinator.mirror.leadership import Leadership
from octad.coordinator.placement.placement_commit import (
    PlanChange,
    operation_changes,
    resumed,
    reverted,
    stopped,
    target_chunks,
)
from octad.coordinator.placement.placement_driver import PlacementDriver
from octad.coordinator.placement.placement_proposal import Proposal, propose
from octad.coordinator.placement.placement_requests import PlanRefused, check_fields
from octad.coordinator.placement.placement_status import placed_nodes, placed_pools, plan_status
from octad.coordinator.placement.placement_view import PlacementView, placement_view
from octad.coordinator.schema.cluster_view import BadRecord
from octad.coordinator.schema.placement_messages import (
    PlacedNodes,
    PlacedPools,
    PlanAnswer,
    PlanRequest,
    PlanStatus,
)
from octad.coordinator.schema.placement_records import PlacementKeys
from octad.coordinator.schema.records import NodeRecord, StoreKeys
from octad.coordinator.store.interface import (
    ConfigStore,
    ModRevisionIs,
    Put,
    StoreUnavailable,
)
from octad.coordinator.store.mirror import Mirror
from octad.sharding.ids import NodeId, node_name, parse_node_name

_ATTEMPTS = 5
_REST_S = 0.2  # Between two decisions: many changes come together.
_LOOK_AGAIN_S = 2.0  # Refusals and stalls are judged by time, not by a change.
_REACH_S = 2.0
_CHUNKS_PER_TRANSACTION = 8  # 50 KB each, far below what a store takes at once.
_STEERING: dict[str, Callable[[StoreKeys, PlacementView], PlanChange]] = {
    "stop": stopped,
    "resume": resumed,
    "revert": reverted,
}

log = logging.getLogger(__name__)


class Placement:
    """Made by the coordinator; `wake` it when the cluster's own records changed."""

    def __init__(
        self,
        store: ConfigStore,
        keys: StoreKeys,
        mirror: Mirror,
        cluster: ClusterMirror,
        leadership: Leadership,
    ) -> None:
        self._store = store
        self._mirror = mirror
        self._store_keys = keys
        self._keys = PlacementKeys(keys)
        self._cluster = cluster
        self._leadership = leadership
        self._driver = PlacementDriver(keys)
        self._term: ModRevisionIs | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Decide again soon."""
        self._wake.set()

    def start(self) -> None:
        """Once the mirror has started."""
        self._mirror.subscribe(lambda _key, _entry: self._wake.set(), *self._keys.prefixes)
        self._task = start_background(self._run(), "placement")

    async def stop(self) -> None:
        if self._task is not None:
            await stop_background(self._task)

    def view(self) -> PlacementView:
        """Returns the decoded store; raises BadRecord."""
        kinds = map(self._mirror.of, self._keys.prefixes)
        entries = (entry for kind in kinds for entry in kind.values())
        return placement_view(self._keys, self._cluster.view(), entries)

    def status(self) -> PlanStatus:
        """The operation's progress; only the leader knows its problems."""
        return plan_status(self.view(), self._driver.problems)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the operation makes no progress; only the leader knows."""
        return tuple(self._driver.problems) if self._leadership.token is not None else ()

    def nodes(self) -> PlacedNodes:
        return placed_nodes(self.view())

    def pools(self) -> PlacedPools:
        return placed_pools(self.view())

    def nodes_for_map(self) -> list[NodeRecord]:
        """The nodes that a new pool may use, with operators' settings applied."""
        view = self.view()
        return [
            msgspec.structs.replace(view.cluster.nodes[n.id], weight=n.weight, zone=n.zone)
            for n in view.usable_nodes()
        ]

    def check_join(self, node: NodeId) -> None:
        """Raises JoinRefused for a node that was removed: its data is stale."""
        if self.view().settings_of(node).removed:
            name = node_name(node)
            reason = (
                f"{name} was removed, so other nodes have all that it had: move its data directory"
                " away, and it comes back as a new node"
            )
            raise JoinRefused("removed", reason)

    async def ask(self, action: str, request: PlanRequest) -> PlanAnswer:
        """Carry out an operator's request, or return its dry run; raises PlanRefused."""
        for _ in range(_ATTEMPTS):
            view = await self.fresh_view()
            if action in _STEERING:
                change = _STEERING[action](self._store_keys, view)
                check_fields(action, request)
                answer = self._steering_answer(action, request, view)
                if request.dry_run or await self._commit(change):
                    return answer
                continue
            proposal = propose(action, request, view)
            if action == "add":
                await self._check_reach(request, view)
            if request.dry_run:
                return proposal.answer(dry_run=True, operation=None)
            operation = secrets.token_hex(6)
            if await self._begin(operation, request, view, proposal):
                log.info("%s: %d copies move", proposal.what, proposal.moves)
                began = operation if proposal.has_work else None
                return proposal.answer(dry_run=False, operation=began)
        raise StoreUnavailable("others change what is planned at the same time")

    async def fresh_view(self) -> PlacementView:
        """Returns a view as new as a linearizable read; raises StoreUnavailable, BadRecord."""
        await self._mirror.refresh()
        return self.view()

    def _steering_answer(
        self, action: str, request: PlanRequest, view: PlacementView
    ) -> PlanAnswer:
        assert view.operation is not None, "steering without an operation is refused"
        operation = view.operation.record
        if action == "revert":
            backwards = msgspec.structs.replace(operation, backwards=True, state="running")
            view = replace(view, operation=replace(view.operation, record=backwards))
        status = plan_status(view, ())
        return PlanAnswer(
            what=f"{action} {operation.what}",
            dry_run=request.dry_run,
            operation=operation.id,
            moves=status.moves_left,
            moves_bytes=status.bytes_left,
            shards=len(view.targets),
            primaries=status.primaries_left,
            splits=status.splits_left,
        )

    async def _begin(
        self, operation: str, request: PlanRequest, view: PlacementView, proposal: Proposal
    ) -> bool:
        """Whether it is begun; not if something else came between."""
        written: list[ModRevisionIs] = []
        chunks = list(target_chunks(self._keys, operation, proposal.targets))
        for start in range(0, len(chunks), _CHUNKS_PER_TRANSACTION):
            batch = chunks[start : start + _CHUNKS_PER_TRANSACTION]
            outcome = await self._store.transact([], [Put(key, value) for key, value in batch])
            written += [ModRevisionIs(key, outcome.revision) for key, _ in batch]
        change = operation_changes(
            self._store_keys, view, proposal, request, operation, chunks_written=written
        )
        return await self._commit(change)

    async def _commit(self, change: PlanChange) -> bool:
        if not change.operations:
            return True
        outcome = await self._store.transact(change.compares, change.operations)
        return outcome.succeeded

    async def _check_reach(self, request: PlanRequest, view: PlacementView) -> None:
        """Data is not sent to where no one can connect."""
        for name in request.nodes:
            record = view.cluster.nodes[NodeId(parse_node_name(name))]
            for address in (record.rpc_address, record.s3_address):
                if not await _can_connect(address):
                    raise PlanRefused(
                        "unreachable",
                        f"no one answers at {address}, where {node_name(record.id)} says it is",
                        "start it with --advertise HOST as others reach it, and open its ports",
                    )

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._wake.wait()
            self._wake.clear()
            token = self._leadership.token
            if token is not None:
                try:
                    await self._lead(token)
                except (StoreUnavailable, BadRecord) as error:
                    log.warning("placement waits: %s", error)
            await asyncio.sleep(_REST_S)

    async def _lead(self, token: ModRevisionIs) -> None:
        if token != self._term:  # The state of an earlier term may be stale.
            self._driver, self._term = PlacementDriver(self._store_keys), token
        now_s = asyncio.get_running_loop().time()
        for transaction in self._driver.decide(self.view(), token, now_s):
            outcome = await self._store.transact(transaction.compares, transaction.operations)
            if not outcome.succeeded:
                if await self._leadership.confirm():
                    await self.fresh_view()
                    self._wake.set()
                return


async def _can_connect(text: str) -> bool:
    address = parse_address(text)
    try:
        async with asyncio.timeout(_REACH_S):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True
