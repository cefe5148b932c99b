"""Asks the node that answers for a shard: this node by a plain call, another by a message.

`shard_server.py` is the other end. A request that meets a dead, moved, starting or refusing node is
tried again, with the same request id, until a node answers or its time is over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Final, TypeAlias, TypeVar

import msgspec

from octad.client.runtime.steady_clock import now
from octad.sharding import limits
from octad.sharding.ids import NodeId, PoolId, ShardId, pool_of, shard_name
from octad.sharding.limits import MIB
from octad.sharding.map.shard_map import ShardConfiguration, ShardMap
from octad.storage_node.index.index import IndexDamage
from octad.storage_node.memory.body_budget import ByteGate
from octad.storage_node.operations.conditions import Condition, encode_condition
from octad.storage_node.replication.writes import Write
from octad.storage_node.rpc.messages import Reply, Request, encode_message, reply_to
from octad.storage_node.rpc.peer_connection import Buffer
from octad.storage_node.rpc.peers import Peers
from octad.storage_node.rpc.rpc_errors import (
    CallTimeout,
    PeerUnavailable,
    RemoteError,
    RpcError,
    RpcRefusal,
)
from octad.storage_node.shards import object_messages as messages
from octad.storage_node.shards.listing.pool_view import PoolView
from octad.storage_node.shards.object_store import (
    Damaged,
    Degraded,
    NotDoneNow,
    NotServed,
    Unavailable,
)
from octad.storage_node.shards.request_places import hash_of_request
from octad.storage_node.shards.retry import ConfigurationWaiters, Patience
from octad.storage_node.shards.shard_server import ShardServer
from octad.storage_node.shards.shard_service import ShardService

PIECES_UNDER_WAY_BYTES: Final = 64 * MIB
READ_ELSEWHERE_S: Final = 0.5  # After this silence another member is asked.
SLOW_NODE_S: Final = 2.0  # For so long a node that was silent is asked last.

# What a call is about that depends on all shards of a node; other calls name their shard.
LISTINGS: Final = -1

Result = TypeVar("Result")
Change: TypeAlias = (
    messages.CompleteParts | messages.AbortParts | messages.ChangeExtras | messages.AppendObject
)
Attempt = Callable[[ShardConfiguration | None, Patience | None], Awaitable[Result]]
"""One try, at a node that the configuration names; the first has no Patience yet."""

Place = Callable[[], int | None]
"""The hash of what a request is about; None where it is about many things."""


class ShardClient:
    """Asks the node that answers for a shard. Raises the store's errors.

    Call `configuration_changed` and `connected` when that happens: they end waits that have become
    pointless.
    """

    def __init__(
        self,
        node: NodeId,
        service: ShardService,
        server: ShardServer,
        peers: Peers,
        shard_map: ShardMap,
    ) -> None:
        self.node = node
        self.map = shard_map
        self._service = service
        self._server = server
        self._peers = peers
        self._waiters = ConfigurationWaiters(shard_map.configurations)
        self._views: dict[PoolId, PoolView] = {}
        self._primaries: dict[ShardId, NodeId] = {}
        self._pieces: dict[NodeId, ByteGate] = {}  # Under way to each node, this one among them.
        self._slow_until: dict[NodeId, float] = {}

    # -- what happens --------------------------------------------------------------------------

    def configuration_changed(self, shard: ShardId) -> None:
        """`shard` has a new configuration. What was asked of its old primary is asked anew."""
        primary = self.map.configurations[shard].primary
        before = self._primaries.get(shard, primary)
        self._primaries[shard] = primary
        self._views.pop(pool_of(shard), None)
        if before not in (primary, self.node):
            self._peers.give_up(before, shard)
            self._peers.give_up(before, LISTINGS)
        self._waiters.changed(shard)

    def connected(self, node: NodeId) -> None:
        """`node` can be asked again."""
        self._slow_until.pop(node, None)
        self._waiters.connected(node)

    def configuration(self, shard: ShardId) -> ShardConfiguration:
        """The shard's configuration; raises NotServed while there is none."""
        return _known(self.map.configurations.get(shard), shard)

    def view(self, pool: PoolId) -> PoolView:
        """Who leads what of `pool`; raises Unavailable while that, or a part, is not known here."""
        view, known = self._views.get(pool), self.map.pools.get(pool)
        if known is None:
            raise Unavailable(f"pool {pool} is not known here yet")
        if view is None or view.pool is not known:
            shards = {shard: self.configuration(shard) for shard in self.map.shards_of(pool)}
            view = self._views[pool] = PoolView.of(known, shards)
        return view

    def degraded(self, pool: PoolId, copies: int) -> Degraded | None:
        """What `Done.copies` of a shard of `pool` means."""
        return Degraded(copies, self.map.pools[pool].replicas) if copies else None

    # -- requests that are tried again ---------------------------------------------------------

    def propose(self, pool: PoolId, write: Write) -> Coroutine[None, None, messages.Done]:
        """At the primary of its shard: order and commit a write.

        Large data waits here until less is under way to that node: the bound protects the primary's
        memory, so this node's budget does not count it.
        """
        try:
            shard = self.map.shard_of_hash(pool, write.hash)
        except KeyError as error:
            raise Unavailable(f"pool {pool} is not known here yet") from error
        proposal = self._propose(shard, write)
        configuration = self.map.configurations.get(shard)
        if configuration is None or len(write.data) <= limits.INLINE_BYTES_MAX:
            return proposal
        gate = self._pieces.setdefault(configuration.primary, ByteGate(0))
        nodes = self._peers.named + 1
        gate.resize(max(PIECES_UNDER_WAY_BYTES // nodes, 2 * limits.PIECE_BYTES_MAX))
        return gate.within(len(write.data), proposal)

    async def _propose(self, shard: ShardId, write: Write) -> messages.Done:
        async def attempt(
            configuration: ShardConfiguration | None, patience: Patience | None
        ) -> messages.Done:
            at = _place(shard, patience)
            known = _known(configuration, at)
            age_s, asked_in = write.age_s if patience is None else patience.age_s(), known.epoch
            if known.primary == self.node:
                this = msgspec.structs.replace(write, age_s=age_s, asked_in=asked_in)
                try:
                    return await self._service.propose(at, this)
                except IndexDamage as damage:  # Nothing is ordered before it is looked at.
                    raise NotServed(str(damage)) from damage
            message: Request[messages.Done] = messages.Propose(
                at, write.kind, write.request_id, write.metadata, age_s, asked_in
            )
            if write.condition is not None:
                message = _change_if(write.condition, message)
            timeout_s = _at_most(limits.CALL_TIMEOUT_S, patience)
            answer, _ = await self.call(known.primary, message, write.data, timeout_s, at)
            return answer

        return await self.until_answered(shard, attempt, write.age_s, lambda: write.hash)

    async def change(
        self,
        shard: ShardId,
        message: Change,
        condition: Condition | None = None,
        data: Buffer = b"",
    ) -> messages.Done:
        """At the primary: carry out `message`, under `condition` if there is one."""

        async def attempt(
            configuration: ShardConfiguration | None, patience: Patience | None
        ) -> messages.Done:
            at = _place(shard, patience)
            known = _known(configuration, at)
            age_s = message.age_s if patience is None else patience.age_s()
            this = msgspec.structs.replace(message, shard=at, age_s=age_s, asked_in=known.epoch)
            timeout_s = _at_most(limits.CALL_TIMEOUT_S, patience)
            change = this if condition is None else _change_if(condition, this)
            answer, _ = await self.call(known.primary, change, data, timeout_s, at)
            return answer

        place = partial(hash_of_request, message)
        return await self.until_answered(shard, attempt, message.age_s, place)

    async def ask_primary(self, shard: ShardId, message: Request[Reply]) -> tuple[Reply, Buffer]:
        """The primary's answer, wherever it is; for reads only."""

        async def attempt(
            configuration: ShardConfiguration | None, patience: Patience | None
        ) -> tuple[Reply, Buffer]:
            at = _place(shard, patience)
            this = message if at == shard else msgspec.structs.replace(message, shard=at)
            timeout_s = _at_most(limits.READ_TIMEOUT_S, patience)
            return await self.call(_known(configuration, at).primary, this, b"", timeout_s, at)

        return await self.until_answered(shard, attempt, place=partial(hash_of_request, message))

    async def ask_members(self, shard: ShardId, message: Request[Reply]) -> tuple[Reply, Buffer]:
        """The answer of any member that has one, the primary first.

        For reads only, which every member may answer where it is sure (rule R3). This node, if it
        is a member, has been asked already and could not tell; it may be able to later.
        """

        async def attempt(
            configuration: ShardConfiguration | None, patience: Patience | None
        ) -> tuple[Reply, Buffer]:
            at = _place(shard, patience)
            this = message if at == shard else msgspec.structs.replace(message, shard=at)
            configuration = _known(configuration, at)
            members = [member.node for member in configuration.members]
            if patience is None and self.node in members:
                members.remove(self.node)
            moment, slow_until = now(), self._slow_until
            members.sort(
                key=lambda n: (slow_until.get(n, 0.0) > moment, n != configuration.primary)
            )
            return await self._ask_in_turn(at, members, this, patience)

        return await self.until_answered(shard, attempt, place=partial(hash_of_request, message))

    async def until_answered(
        self,
        shard: ShardId | None,
        attempt: Attempt[Result],
        age_s: float = 0.0,
        place: Place | None = None,
    ) -> Result:
        """The result of the first `attempt` that does not raise Unavailable, within the patience.

        Between two tries it waits for a change of the shard's configuration, or of any where
        `shard` is None. `age_s` is how old the request is already. `place` tells where it belongs
        when its shard has been split meanwhile; `patience.shard` is where a later try is made.
        """
        configurations = self.map.configurations
        tried_at = now()
        configuration = None if shard is None else configurations.get(shard)
        try:
            return await attempt(configuration, None)
        except Unavailable as error:
            failure = error
        patience = Patience(self._waiters, shard, tried_at, age_s)
        while True:
            patience.failed(failure, tried_at)
            await patience.pause(configuration, failure)
            tried_at = now()
            if shard is not None and place is not None:
                patience.shard = shard = self._after_splits(shard, place)
            configuration = None if shard is None else configurations.get(shard)
            try:
                return await attempt(configuration, patience)
            except Unavailable as error:
                failure = error
            except NotDoneNow as error:
                error.did_nothing = not patience.age_s()
                raise

    def _after_splits(self, shard: ShardId, place: Place) -> ShardId:
        """`shard`, or the part of it that a request of this place is in by now (rule R18)."""
        configuration = self.map.configurations.get(shard)
        hash_ = place() if configuration is not None and configuration.split_points() else None
        return shard if hash_ is None else self.map.shard_of_hash(pool_of(shard), hash_)

    # -- one try -------------------------------------------------------------------------------

    async def _ask_in_turn(
        self,
        shard: ShardId,
        members: list[NodeId],
        message: Request[Reply],
        patience: Patience | None,
    ) -> tuple[Reply, Buffer]:
        failure: Unavailable | Damaged = NotServed(f"no other member has {shard_name(shard)}")
        damaged = 0  # Only if all copies are damaged is there nothing to wait for.
        for index, node in enumerate(members):
            is_last = index == len(members) - 1
            longest_s = limits.READ_TIMEOUT_S if is_last else READ_ELSEWHERE_S
            try:
                return await self.call(node, message, b"", _at_most(longest_s, patience), shard)
            except Damaged as error:
                damaged += 1
                failure = error if damaged == len(members) else failure
            except Unavailable as error:
                failure = error
        raise failure

    async def ask_all(self, shard: ShardId, message: Request[Reply]) -> tuple[Reply, Buffer]:
        """This node's answer, which met damage and may have repaired it, or another member's."""
        try:
            return await self.call(self.node, message, b"", limits.READ_TIMEOUT_S)
        except (Unavailable, Damaged):
            return await self.ask_members(shard, message)

    async def call(
        self,
        node: NodeId,
        message: Request[Reply],
        body: Buffer,
        timeout_s: float,
        about: int | None = None,
    ) -> tuple[Reply, Buffer]:
        """`node`'s answer, which may be this one. `about` is a shard, or `LISTINGS`."""
        try:
            if node == self.node:
                answer, data = await self._server.on_request(node, message, memoryview(body))
                assert isinstance(data, bytes | bytearray | memoryview)
                return reply_to(message, answer), data
            return await self._peers.call(node, message, body, timeout_s=timeout_s, about=about)
        except RpcRefusal as refusal:
            raise messages.ERRORS.get(refusal.code, Unavailable)(refusal.text) from refusal
        except RemoteError as error:
            raise messages.ERRORS.get(error.code, Unavailable)(error.text) from error
        except PeerUnavailable as error:
            raise (Unavailable if error.sent else NotServed)(str(error)) from error
        except CallTimeout as error:
            self._slow_until[node] = now() + SLOW_NODE_S
            raise Unavailable(str(error)) from error
        except RpcError as error:
            raise Unavailable(str(error)) from error


def _change_if(condition: Condition, change: Request[messages.Done]) -> messages.ChangeIf:
    return messages.ChangeIf(encode_condition(condition), encode_message(change))


def _place(shard: ShardId, patience: Patience | None) -> ShardId:
    return shard if patience is None or patience.shard is None else patience.shard


def _known(configuration: ShardConfiguration | None, shard: ShardId) -> ShardConfiguration:
    if configuration is None:
        raise NotServed(f"shard {shard_name(shard)} has no configuration yet: nodes are missing")
    return configuration


def _at_most(timeout_s: float, patience: Patience | None) -> float:
    return timeout_s if patience is None else min(timeout_s, patience.left_s())
