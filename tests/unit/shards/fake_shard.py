"""One shard whose primaries refuse, die, move and answer late or twice, as the test says.

What a primary ordered is in `log`, which every later primary has, with the request ids: the
replicated state of a shard in the fewest lines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import cast

from octad.sharding.ids import BucketId, Epoch, NodeId, PoolId, ShardId, shard_id
from octad.sharding.map.shard_map import Member, Pool, ShardConfiguration, ShardMap
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.operations.index_changes import DeleteObject
from octad.storage_node.replication.writes import Write
from octad.storage_node.rpc.messages import Message
from octad.storage_node.rpc.peers import Peers
from octad.storage_node.rpc.rpc_errors import CallTimeout, PeerUnavailable, RemoteError
from octad.storage_node.shards import object_messages as messages
from octad.storage_node.shards.shard_client import ShardClient
from octad.storage_node.shards.shard_server import ShardServer
from octad.storage_node.shards.shard_service import ShardService

HERE = NodeId(9)  # No member: everything it wants it has to ask for.
POOL = PoolId(0)
SHARD = shard_id(POOL, 0)
NODES = (NodeId(1), NodeId(2), NodeId(3))

ANSWERS = "answers"
REFUSES = "refuses: it is starting"
IS_CUT_OFF = "is not connected"
DIES_BEFORE = "dies before it has ordered"
DIES_AFTER = "dies when it has ordered"
MOVES_AFTER = "orders, hands over, and its answer is lost"
TWICE = "gets the message twice"
IS_FULL = "has no room for it"
LATE = "times out, and gets the message after the next try"
FAULTS = (REFUSES, IS_CUT_OFF, DIES_BEFORE, DIES_AFTER, MOVES_AFTER, TWICE, LATE)


class FakeShard:
    """What it does with each try of a write is in `schedules`, by the write's metadata."""

    def __init__(self) -> None:
        self.configurations: dict[ShardId, ShardConfiguration] = {}
        self.log: list[bytes] = []  # The metadata of each write, in order.
        self.ids: set[bytes] = set()
        self.ages: list[float] = []
        self.asked: list[NodeId] = []
        self.asked_in: list[Epoch] = []  # What each try of a change says.
        self.schedules: dict[bytes, list[str]] = {}
        self.late: list[messages.Propose] = []
        self.silent: set[NodeId] = set()
        self.reads: dict[NodeId, Exception] = {}  # What a read there ends in; else an answer.
        self.hanging: list[tuple[NodeId, int | None, asyncio.Future[None]]] = []
        self.client = ShardClient(
            HERE,
            cast(ShardService, None),
            cast(ShardServer, None),
            cast(Peers, self),
            ShardMap({POOL: Pool(POOL, 3, 0)}, self.configurations),
        )
        self.move_to(NODES[0])

    def move_to(self, primary: NodeId) -> None:
        """Another configuration, of which the client is told."""
        known = self.configurations.get(SHARD)
        epoch = Epoch(known.epoch + 1 if known else 1)
        members = tuple(Member(node, "disk") for node in NODES)
        self.configurations[SHARD] = ShardConfiguration(
            epoch=epoch, primary=primary, depth=0, members=members
        )
        self.client.configuration_changed(SHARD)

    # -- Peers ---------------------------------------------------------------------------------

    async def call(
        self,
        node: NodeId,
        message: Message,
        body: bytes,
        *,
        timeout_s: float,
        about: int | None,
    ) -> tuple[Message, bytes]:
        self.asked.append(node)
        if node in self.silent:
            await self._hang(node, timeout_s, about)
        await asyncio.sleep(0)
        if isinstance(message, messages.Propose | messages.CompleteParts | messages.AbortParts):
            self.asked_in.append(message.asked_in)
        if not isinstance(message, messages.Propose):
            if node in self.reads:
                raise self.reads[node]
            return messages.PieceRead(), b"piece"
        late, self.late = self.late, []
        schedule = self.schedules.get(message.metadata, [])
        self._act(node, message, schedule.pop(0) if schedule else ANSWERS)
        for earlier in late:  # After this try.
            self._order(earlier)
        return messages.Done(), b""

    async def _hang(self, node: NodeId, timeout_s: float, about: int | None) -> None:
        given_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.hanging.append((node, about, given_up))
        await asyncio.wait([given_up], timeout=timeout_s)
        if given_up.done():
            raise PeerUnavailable(node, "it is away", sent=True)
        raise CallTimeout(node, timeout_s=timeout_s)

    def give_up(self, node: NodeId, about: int) -> None:
        for asked, subject, given_up in self.hanging:
            if (asked, subject) == (node, about) and not given_up.done():
                given_up.set_result(None)

    # -- the primary ---------------------------------------------------------------------------

    def _act(self, node: NodeId, message: messages.Propose, what: str) -> None:
        if what == REFUSES or node != self.configurations[SHARD].primary:
            raise RemoteError(node, messages.NOT_SERVED, what)
        if what == IS_CUT_OFF:
            raise PeerUnavailable(node, "it is away", sent=False)
        if what == IS_FULL:
            raise RemoteError(node, messages.DISK_FULL, what)
        if what == LATE:
            self.late.append(message)
            raise CallTimeout(node, timeout_s=0)
        if what != DIES_BEFORE:
            self._order(message)
        if what == TWICE:
            self._order(message)
        if what in (DIES_BEFORE, DIES_AFTER, MOVES_AFTER):
            self.move_to(NODES[node % len(NODES)])
            raise PeerUnavailable(node, "it is away", sent=True)

    def _order(self, message: messages.Propose) -> None:
        self.ages.append(message.age_s)
        if message.request_id not in self.ids:
            self.ids.add(message.request_id)
            self.log.append(message.metadata)


def a_write(what: bytes, data: bytes, age_s: float) -> Write:
    """Recognized by its metadata, `what`."""
    operation = DeleteObject(BucketId(1), b"key")
    return Write(RecordKind.PUT_OBJECT, operation, what, 0, what.ljust(16), data, age_s)


def schedule_of(faults: Iterable[str]) -> list[str]:
    """`faults`, one a try, and then an answer."""
    return [*faults, ANSWERS]
