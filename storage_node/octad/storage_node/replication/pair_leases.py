"""Leases of one node with every other, by pair of nodes: idle cost does not grow with shards.

    A ── Beat: digest of (shard, epoch) that A leads with B, and that A follows B in ──> B
    A <── BeatAnswer: B's promise not to challenge A, and read grants of what B leads ── B

- *Primary lease* (R4): B's promise, good at A until A *sent* the beat + L. A digest that B does
  not share covers nothing; lists are exchanged, and equal (shard, epoch) pairs covered (R5).
- *Read lease* (R6): what B may read alone in shards that A leads. A passes on what is left of the
  promises of its own peers, so that it ends before A's own lease does.
- *Grace* (R7): when this node may submit a configuration that removes another.

Times are this node's monotonic clock, which counts suspension, and arrive with every event. A
*tick* orders the changes of what is led and followed: an answer covers only the shards whose place
has not changed since the beat was sent.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from functools import reduce
from itertools import starmap
from operator import xor

from xxhash import xxh3_64_intdigest

from octad.sharding.ids import Epoch, NodeId, ShardId
from octad.sharding.limits import (
    BEAT_S,
    BOOT_PATIENCE_S,
    CLOCK_DRIFT_MAX,
    GRACE_S,
    LEASE_S,
    READ_GRANT_S_MIN,
)
from octad.storage_node.replication.lease_messages import Beat, BeatAnswer

ISOLATED_WAIT_S = 1.5  # Added to the grace of a node that hears few of the others.

BEATS_REMEMBERED = 8  # An answer that comes later would give no lease any more.
OWN_PAUSE_S = 3 * BEAT_S
NEVER = float("-inf")
RESTS_ON_ANY_CLOCK = (1 - CLOCK_DRIFT_MAX) / (1 + CLOCK_DRIFT_MAX)

_PAIR = struct.Struct("<QQ")


@dataclass(slots=True)
class _Peer:
    """What this node and one other have promised each other."""

    led: dict[ShardId, Epoch] = field(default_factory=dict)  # By this node, with it.
    led_digest: int = 0
    led_tick: int = 0
    followed: dict[ShardId, Epoch] = field(default_factory=dict)  # Led by it, with this node.
    followed_digest: int = 0
    # This node's beats, and what the peer's promises cover.
    beats: int = 0
    sent: deque[tuple[int, float, int]] = field(
        default_factory=lambda: deque(maxlen=BEATS_REMEMBERED)
    )
    wants_list: bool = False
    heard_at: float | None = None  # When it was first heard since this boot.
    answered_at: float = NEVER
    newest: int = 0
    promised_until: float = NEVER
    promised_tick: int = -1
    listed_until: dict[ShardId, tuple[Epoch, float]] = field(default_factory=dict)
    # What this node may read of what the peer leads.
    grant_number: int = 0
    grant_tick: int = -1
    grant_until: dict[NodeId, float] = field(default_factory=dict)
    grant_excludes: frozenset[ShardId] = frozenset()
    grant_lists: dict[ShardId, Epoch] | None = None
    # What this node has promised and granted to the peer.
    we_promised_at: float = NEVER
    we_promised_tick: int = -1
    we_promised_listed: dict[ShardId, float] = field(default_factory=dict)
    we_granted_at: float = NEVER


class PairLeases:
    """See the module. One for a node; its replicas say what they lead and follow."""

    def __init__(self, node: NodeId, boot: int, now: float) -> None:
        self.node = node
        self.boot = boot
        self.booted_at = now
        self._beaten_at = now
        self._awake_since = now  # This node has been beating without a gap.
        # Recorded as dead by their supervisors: see `grace_over`.
        self.dead: Container[NodeId] = ()
        self.beat_soon = False  # A change of what is led or followed is not announced yet.
        self._tick = 0
        self._peers: dict[NodeId, _Peer] = {}
        self._ticks: dict[ShardId, int] = {}
        self._places: dict[ShardId, tuple[bool, Epoch, tuple[NodeId, ...]]] = {}
        self._blocked: dict[ShardId, float] = {}  # No read grants, since.

    # -- what is led and followed --------------------------------------------------------------

    def lead(self, shard: ShardId, epoch: Epoch, others: Iterable[NodeId]) -> None:
        """This node is the primary of `shard` at `epoch`, with these members and learners."""
        self._enter(shard, True, epoch, tuple(node for node in others if node != self.node))

    def follow(self, shard: ShardId, epoch: Epoch, primary: NodeId) -> None:
        """This node is in the configuration of `epoch`: it promises not to challenge `primary`."""
        self._enter(shard, False, epoch, (primary,))

    def forget(self, shard: ShardId) -> None:
        """Neither: no promise is asked for or given (rule R9: as a challenger, too)."""
        place = self._places.pop(shard, None)
        self._blocked.pop(shard, None)
        if place is None:
            return
        self._tick += 1
        leading, epoch, nodes = place
        for node in nodes:
            peer = self._peers[node]
            if leading:
                del peer.led[shard]
                peer.led_digest ^= pair_digest(shard, epoch)
                peer.led_tick = self._tick
                peer.listed_until.pop(shard, None)
            else:
                del peer.followed[shard]
                peer.followed_digest ^= pair_digest(shard, epoch)

    def block(self, shard: ShardId, now: float) -> None:
        """Grant no reads of `shard` from now on: its configuration is about to change (rule R9)."""
        self._blocked.setdefault(shard, now)

    def blocks(self, shard: ShardId) -> bool:
        """Whether no reads of `shard` are granted."""
        return shard in self._blocked

    def unblock(self, shard: ShardId) -> None:
        """Its configuration did not change after all."""
        self._blocked.pop(shard, None)

    def _enter(
        self, shard: ShardId, leading: bool, epoch: Epoch, nodes: tuple[NodeId, ...]
    ) -> None:
        self.forget(shard)
        self._tick += 1
        self.beat_soon = True
        self._ticks[shard] = self._tick
        self._places[shard] = (leading, epoch, nodes)
        for node in nodes:
            peer = self._peers.setdefault(node, _Peer())
            if leading:
                peer.led[shard] = epoch
                peer.led_digest ^= pair_digest(shard, epoch)
                peer.led_tick = self._tick
            else:
                peer.followed[shard] = epoch
                peer.followed_digest ^= pair_digest(shard, epoch)

    @property
    def tick(self) -> int:
        """Changes whenever what is led or followed changes, or its epoch."""
        return self._tick

    # -- beats ---------------------------------------------------------------------------------

    def beats(self, now: float) -> list[tuple[NodeId, Beat]]:
        """One for every node that shares a shard with this one. Send them at once."""
        self.beat_soon = False
        if now - self._beaten_at > OWN_PAUSE_S:
            self._awake_since = now
        self._beaten_at = now
        return [
            (node, self.beat(node, now))
            for node, peer in self._peers.items()
            if peer.led or peer.followed
        ]

    def beat(self, node: NodeId, now: float) -> Beat:
        """The next beat to `node`."""
        peer = self._peers[node]
        peer.beats += 1
        peer.sent.append((peer.beats, now, self._tick))
        pairs = tuple(peer.led.items()) if peer.wants_list else None
        return Beat(self.boot, peer.beats, peer.led_digest, peer.followed_digest, pairs)

    def on_beat(self, sender: NodeId, beat: Beat, now: float) -> BeatAnswer:
        """Promise and grant. Send the answer at once."""
        peer = self._peers.setdefault(sender, _Peer())
        peer.heard_at = now if peer.heard_at is None else peer.heard_at
        promised: tuple[tuple[ShardId, Epoch], ...] | None = None
        wants_list = False
        if beat.leads_digest == peer.followed_digest:
            peer.we_promised_at, peer.we_promised_tick = now, self._tick
        elif beat.leads is None:
            promised, wants_list = (), True
        else:
            followed = peer.followed
            promised = tuple(pair for pair in beat.leads if followed.get(pair[0]) == pair[1])
            for shard, _ in promised:
                peer.we_promised_listed[shard] = now
        agreed = beat.follows_digest == peer.led_digest
        if agreed and peer.led and peer.promised_tick < peer.led_tick:
            self.beat_soon = True  # It has learned what we lead, and would promise it now.
        remaining = self._remaining(sender, now)
        if not remaining:
            return BeatAnswer(beat.boot, beat.number, promised, wants_list)
        listed = None if agreed else tuple(peer.led.items())
        excluded = tuple(shard for shard in self._blocked if shard in peer.led)
        peer.we_granted_at = now
        return BeatAnswer(beat.boot, beat.number, promised, wants_list, remaining, excluded, listed)

    def _remaining(self, reader: NodeId, now: float) -> tuple[tuple[NodeId, float], ...]:
        """What is left of the promises of our peers that cover all we lead with them."""
        if not self._peers[reader].led:
            return ()
        remaining: list[tuple[NodeId, float]] = []
        has_reader = False
        for node, peer in self._peers.items():
            left = peer.promised_until - now
            if peer.led and left >= READ_GRANT_S_MIN and peer.promised_tick >= peer.led_tick:
                remaining.append((node, left))
                has_reader |= node == reader
        return tuple(remaining) if has_reader else ()

    def on_answer(self, sender: NodeId, answer: BeatAnswer, now: float) -> bool:
        """Take its promises and grants; True: send a beat with the full list at once."""
        peer = self._peers.get(sender)
        if peer is None or answer.boot != self.boot:
            return False  # To a beat of an earlier boot, whose numbers say nothing here.
        beat = next((sent for sent in peer.sent if sent[0] == answer.number), None)
        if beat is None:
            return False
        number, sent_at, tick = beat
        peer.heard_at = now if peer.heard_at is None else peer.heard_at
        peer.answered_at = max(peer.answered_at, sent_at)
        self._take_promise(peer, answer, number, sent_at, tick)
        if answer.remaining and number > peer.grant_number:
            peer.grant_number, peer.grant_tick = number, tick
            peer.grant_until = {
                node: sent_at + rest * RESTS_ON_ANY_CLOCK for node, rest in answer.remaining
            }
            peer.grant_excludes = frozenset(answer.excluded)
            peer.grant_lists = None if answer.granted is None else dict(answer.granted)
        if answer.wants_list and not peer.wants_list:
            peer.wants_list = True
            return True
        return False

    def _take_promise(
        self, peer: _Peer, answer: BeatAnswer, number: int, sent_at: float, tick: int
    ) -> None:
        if answer.promised is None:
            if number > peer.newest:
                peer.newest, peer.wants_list = number, False
                peer.promised_until, peer.promised_tick = sent_at + LEASE_S, tick
            return
        for shard, epoch in answer.promised:
            if peer.led.get(shard) == epoch and self._ticks[shard] <= tick:
                known = peer.listed_until.get(shard)
                until = sent_at + LEASE_S
                if known is None or known[1] < until:
                    peer.listed_until[shard] = (epoch, until)

    # -- questions -----------------------------------------------------------------------------

    def promised_by(self, node: NodeId, shard: ShardId, now: float) -> bool:
        """Whether `node` has promised not to challenge us in `shard`, at its present epoch."""
        peer = self._peers.get(node)
        if peer is None or shard not in peer.led:
            return False
        if now < peer.promised_until and self._ticks[shard] <= peer.promised_tick:
            return True
        listed = peer.listed_until.get(shard)
        return listed is not None and listed[0] == peer.led[shard] and now < listed[1]

    def holds_all(self, now: float) -> bool:
        """Whether every shard led here is promised by all its members, and none is changing.

        It takes a step for each other node, not for each shard. False only means that each shard
        must be checked by itself.
        """
        if self._blocked:
            return False
        return all(
            now < peer.promised_until and peer.led_tick <= peer.promised_tick
            for peer in self._peers.values()
            if peer.led
        )

    def may_read(
        self,
        shard: ShardId,
        epoch: Epoch,
        primary: NodeId,
        others: Iterable[NodeId],
        now: float,
    ) -> bool:
        """Whether `primary` lets this node read, given the promises of `others` to it."""
        peer = self._peers.get(primary)
        if peer is None or shard in peer.grant_excludes or shard not in peer.followed:
            return False
        if self._ticks[shard] > peer.grant_tick:
            return False
        if peer.grant_lists is not None and peer.grant_lists.get(shard) != epoch:
            return False
        until = peer.grant_until
        return all(now < until.get(node, NEVER) for node in others)

    def grace_over(
        self,
        shard: ShardId,
        node: NodeId,
        learned_at: float,
        now: float,
        *,
        urgent: bool = False,
    ) -> bool:
        """Rule R7: may we submit a configuration without `node`?

        `learned_at` is when we learned the present one.

        A node that was paused has heard from no one, so it listens first. There is no wait for a
        process recorded as dead: the swap compares that no other has started since. A node that
        hears few of the others may itself be cut off, so it lets them go first. A node not heard
        since this boot may still be starting, unless this is `urgent`.
        """
        if node in self.dead:
            return True
        if now - self._beaten_at > OWN_PAUSE_S:
            return False
        if not urgent and now < self._may_be_starting_until(node):
            return False
        grace_end = self.grace_end(shard, node, learned_at)
        if now < grace_end or now < self._awake_since + LEASE_S:
            return False
        return now >= grace_end + ISOLATED_WAIT_S or not self._is_isolated(now)

    def _may_be_starting_until(self, node: NodeId) -> float:
        """A node just heard for the first time may not know every configuration yet."""
        peer = self._peers.get(node)
        if peer is None or peer.heard_at is None:
            return self.booted_at + BOOT_PATIENCE_S
        return peer.heard_at + GRACE_S

    def _is_isolated(self, now: float) -> bool:
        """Whether fewer than half of two or more nodes with which this one shares shards answer."""
        others = [peer for node, peer in self._peers.items() if node not in self.dead]
        shared = [peer for peer in others if peer.led or peer.followed]
        heard = sum(now - peer.answered_at <= LEASE_S + BEAT_S for peer in shared)
        return len(shared) > 1 and 2 * heard < len(shared)

    def grace_end(self, shard: ShardId, node: NodeId, learned_at: float) -> float:
        """From when on rule R7 allows it, if nothing more is promised or granted."""
        since = max(self.booted_at, learned_at)
        peer = self._peers.get(node)
        if peer is not None:
            since = max(since, peer.we_promised_listed.get(shard, NEVER))
            place = self._places.get(shard)
            if place is not None and not place[0] and self._ticks[shard] <= peer.we_promised_tick:
                since = max(since, peer.we_promised_at)
            if place is not None and place[0]:
                blocked_at = self._blocked.get(shard)
                since = max(since, peer.we_granted_at if blocked_at is None else blocked_at)
        return since + GRACE_S

    def heard_of(self, node: NodeId, within_s: float, now: float) -> bool:
        """Whether `node` has answered a beat that we sent within the last `within_s`."""
        peer = self._peers.get(node)
        return peer is not None and now - peer.answered_at <= within_s


def pair_digest(shard: ShardId, epoch: Epoch) -> int:
    """What (shard, epoch) adds to a digest."""
    return number_digest(shard, epoch)


def digest_of_pairs(pairs: Iterable[tuple[ShardId, Epoch]]) -> int:
    """The digest of exactly these pairs, in any order."""
    return reduce(xor, starmap(pair_digest, pairs), 0)


def number_digest(first: int, second: int) -> int:
    """64 bits that stand for two numbers."""
    return xxh3_64_intdigest(_PAIR.pack(first, second))
