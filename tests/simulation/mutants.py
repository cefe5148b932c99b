"""Planted bugs, one for each rule: a simulator that does not find them proves nothing.

Each is a set of attributes replaced for the length of a run. `KNOWN_SEEDS` names a seed that finds
it; those that random schedules hardly ever hit have a directed trace in `traces.py` instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.simulation.model.simulated_disk import Disk, ShardIndex
from tests.simulation.model.simulated_node import Process
from tests.simulation.model.simulated_store import Store
from tests.simulation.mutants_beside import MUTANTS_BESIDE, Patch

from octad.sharding.ids import Epoch, NodeId, Seq, ShardId
from octad.sharding.limits import GRACE_S, LEASE_S
from octad.sharding.map.shard_map import Member, ShardRow
from octad.storage_node.replication import pair_leases, reconfiguration
from octad.storage_node.replication.pair_leases import NEVER, PairLeases
from octad.storage_node.replication.replica_actions import Actions, SendAck, Swap
from octad.storage_node.replication.replica_state import ReadTicket, ReplicaState
from octad.storage_node.replication.request_window import RequestWindow
from octad.storage_node.replication.shard_backup import Backup
from octad.storage_node.replication.shard_log import ShardLog
from octad.storage_node.replication.shard_primary import Primary
from octad.storage_node.replication.shard_reconfigurer import Reconfigurer
from octad.storage_node.replication.shard_replica import ShardReplica


def _row(replica: ReplicaState) -> ShardRow:
    assert replica.row is not None
    return replica.row


def _yes(*_: Any) -> bool:
    return True


# -- reads and leases --------------------------------------------------------------------------


def _has_read_lease_without_grant(replica: Backup, now: float) -> bool:
    member = replica.member
    return member is not None and member.base == 0 and _row(replica).primary != replica.node


def _dirty_ticket(replica: Backup, key: bytes, now: float) -> ReadTicket | None:
    if not replica.has_read_lease(now):
        return None
    return ReadTicket(replica.epoch, Seq(0))


def _clean_ticket(replica: Backup, key: bytes, _: float) -> ReadTicket | None:
    return None if key in replica.log.dirty else ReadTicket(replica.epoch, Seq(0))


def _holds_at_any_epoch(replica: ShardReplica, ticket: ReadTicket, now: float) -> bool:
    return replica.has_lease(now) if replica.leading else replica.has_read_lease(now)


def _early_refusal(replica: Primary, key: bytes, now: float) -> ReadTicket | None:
    ticket = _refusal_ticket(replica, key, now)
    return ticket and ReadTicket(ticket.epoch, Seq(0))


_refusal_ticket = Primary.refusal_ticket


def _refuse_without_lease(replica: Primary, request: bytes, ticket: ReadTicket, _: float) -> bool:
    return replica.log.commit >= ticket.wait_for


def _ticket_without_lease(replica: Primary, key: bytes, now: float) -> ReadTicket | None:
    if not replica.leading:
        return None
    newest = replica.log.newest(key)
    return ReadTicket(replica.epoch, newest.seq if newest else Seq(0))


def _some_promised(replica: Primary, members: tuple[Member, ...], now: float) -> bool:
    others = [member.node for member in members if member.node != replica.node]
    return not others or any(
        replica.leases.promised_by(node, replica.shard, now) for node in others
    )


def _lease_of_the_row_alone(replica: Primary, now: float) -> bool:
    return replica.leading and replica._promised(_row(replica).members, now)


def _full_lease_passed_on(leases: PairLeases, reader: NodeId, now: float) -> Any:
    if not leases._peers[reader].led:
        return ()
    return tuple((node, LEASE_S) for node in [*leases._peers, reader])


def _digest_without_epoch(shard: ShardId, epoch: Epoch) -> int:
    return _pair_digest(shard, Epoch(0))


_pair_digest = pair_leases.pair_digest


def _grace(*, boot: bool = True, row: bool = True, promise: bool = True, grant: bool = True) -> Any:
    """The real `grace_end` without some of what it waits for."""

    def grace_end(leases: PairLeases, shard: ShardId, node: NodeId, learned_at: float) -> float:
        since = max(leases.booted_at if boot else NEVER, learned_at if row else NEVER)
        peer = leases._peers.get(node)
        place = leases._places.get(shard)
        if peer is not None and place is not None:
            if promise and not place[0]:
                since = max(since, peer.we_promised_listed.get(shard, NEVER))
                if leases._ticks[shard] <= peer.we_promised_tick:
                    since = max(since, peer.we_promised_at)
            if grant and place[0]:
                blocked_at = leases._blocked.get(shard)
                since = max(since, peer.we_granted_at if blocked_at is None else blocked_at)
        return since + GRACE_S

    return grace_end


def _watch_and_promise(replica: Backup, now: float) -> Actions:
    row = _row(replica)
    if replica.learning:
        return replica._join(row.primary, now)
    if replica.member is None or not replica.may_take_over(now):
        return []
    taken = reconfiguration.taken_over(row, replica.node, replica.log.commit)
    return replica.submit(Swap(row, taken), now)


# -- the log -----------------------------------------------------------------------------------


def _take_and_call_it_durable(replica: Backup, sent: Any) -> Actions:
    actions = _take(replica, sent)
    replica.log.durable = replica.log.end
    return actions


_take = Backup._take


def _advance_by_majority(replica: Primary) -> Actions:
    if replica.pending is not None:
        return []
    acked = sorted(replica.match.values(), reverse=True)
    committed = acked[len(acked) // 2]
    if committed <= replica.log.commit:
        return []
    return replica.commit_to(Seq(min(committed, replica.log.end)))


def _advance_under_a_swap(replica: Primary) -> Actions:
    pending, replica.pending = replica.pending, None
    try:
        return _advance(replica)
    finally:
        replica.pending = pending


_advance = Primary.advance


def _refuse_nothing_old(replica: ReplicaState, sender: NodeId, epoch: Epoch) -> Actions | None:
    if replica.row is None or epoch >= replica.epoch:
        return _refuse(replica, sender, epoch)
    if replica.leading or replica.member is None or sender == replica.node:
        return []
    return None


_refuse = ReplicaState.refuse


def _acknowledge_the_end(replica: ReplicaState) -> Actions:
    log = replica.log
    return [SendAck(_row(replica).primary, log.durable, replica.session, replica.whole is None)]


def _no_barrier_entry(replica: Primary) -> Actions:
    replica.barrier = replica.log.end
    return []


def _serve_before_the_barrier(replica: Primary) -> Actions:
    actions = _order_barrier(replica)
    replica.barrier = Seq(0)
    return actions


_order_barrier = Primary.order_barrier


def _recovered_past_commit(replica: ShardReplica) -> Actions:
    replica.log.commit = replica.log.end
    return _recovered(replica)


_recovered = ShardReplica.recovered


def _resume_the_epoch(replica: Reconfigurer, now: float) -> Actions:
    if not replica.leading:
        return replica._lead(now, False)  # type: ignore[attr-defined, no-any-return]
    return _tend(replica, now)


_tend = Reconfigurer.tend


def _any_incarnation(replica: ReplicaState) -> Member | None:
    return replica.row.member(replica.node) if replica.row is not None else None


def _recruit_in_takeover(replica: Backup, now: float) -> Actions:
    row = _row(replica)
    if replica.learning:
        return replica._join(row.primary, now)
    if replica.member is None or not replica.may_take_over(now):
        return []
    replica.leases.forget(replica.shard)
    taken = reconfiguration.taken_over(row, replica.node, replica.log.commit)
    spare = replica.choose_spare(replica.shard, taken, ())
    if spare is not None and row.member(spare.node) is None:
        epoch = replica.log.epoch_at(replica.log.commit)
        assert epoch is not None
        base = Seq(replica.log.commit + 1)
        recruit = Member(spare.node, spare.incarnation, base, epoch)
        taken = reconfiguration.with_recruit(taken, recruit)
    return replica.submit(Swap(row, taken), now)


def _any_session(replica: Primary, sender: NodeId, upto: Seq, session: int, whole: bool) -> Actions:
    if sender in replica.sessions:
        known = replica.learner_match[sender]
        replica.learner_match[sender] = max(known, upto)
        if whole:
            replica.has_become_whole(sender)
    return []


def _restart_keeping_the_tail(log: ShardLog, start: Seq, epoch: Epoch) -> None:
    tail = [entry for entry in log.entries if entry.seq > start]
    _restart_at(log, start, epoch)
    for entry in tail:
        entry.settled = False
        log.append(entry)
    log.durable = log.end


_restart_at = ShardLog.restart_at


def _put_without_marks(disk: Disk, _: ShardIndex, key: bytes, seq: Seq, value: str | None) -> None:
    known = disk.rows.get(key)
    if known is None or known[0] <= seq:
        if value is None:
            disk.rows.pop(key, None)
        else:
            disk.rows[key] = (seq, value)


def _swap_without_fence(store: Store, process: Process, shard: ShardId, swap: Swap,
                        fence: tuple[int, int], waiting: list[bool]) -> None:  # fmt: skip
    _land(store, process, shard, swap, store.fences.get(process.id, fence), waiting)


_land = Store._land


def _late_outcome_is_lost(store: Store, process: Process, shard: ShardId, swap: Swap,
                          waiting: list[bool]) -> None:  # fmt: skip
    if waiting[0] and process.running:
        waiting[0] = False
        process.when_awake(process.swap_outcome, shard, swap, swap.expected)


MUTANTS: dict[str, list[Patch]] = {
    "a primary reads without a lease": [(Primary, "has_lease", _yes)],
    "a backup reads without a lease": [(Backup, "has_read_lease", _has_read_lease_without_grant)],
    "a backup reads dirty keys": [(Backup, "backup_ticket", _dirty_ticket)],
    "a primary reads behind its commit point": [(ShardLog, "shows_committed", _yes)],
    "a read is judged at its end alone, at any epoch": [
        (Backup, "backup_ticket", _clean_ticket),
        (ShardReplica, "read_holds", _holds_at_any_epoch),
    ],
    "a refusal does not wait": [(Primary, "refusal_ticket", _early_refusal)],
    "a refusal needs no lease": [
        (Primary, "refuse_request", _refuse_without_lease),
        (Primary, "refusal_ticket", _ticket_without_lease),
    ],
    "a lease from some members": [(Primary, "_promised", _some_promised)],
    "no lease from proposed members": [(Primary, "has_lease", _lease_of_the_row_alone)],
    "the read lease is not derived": [(PairLeases, "_remaining", _full_lease_passed_on)],
    "beats without epochs": [(pair_leases, "pair_digest", _digest_without_epoch)],
    "no wait after a boot": [(PairLeases, "grace_end", _grace(boot=False, row=False))],
    "no wait after a new row": [(PairLeases, "grace_end", _grace(row=False))],
    "a challenge without grace": [(PairLeases, "grace_end", _grace(promise=False, row=False))],
    "a removal does not wait for the read lease": [
        (PairLeases, "grace_end", _grace(grant=False, row=False))
    ],
    "promises while challenging": [(Backup, "watch", _watch_and_promise)],
    "acknowledged before the sync": [(Backup, "_take", _take_and_call_it_durable)],
    "commit by majority": [(Primary, "advance", _advance_by_majority)],
    "commit under a swap": [(Primary, "advance", _advance_under_a_swap)],
    "no epoch check": [(ReplicaState, "refuse", _refuse_nothing_old)],
    "acknowledgements of old epochs": [(Primary, "leads", lambda self, epoch: self.leading)],
    "the end of the log is acknowledged": [(ReplicaState, "acknowledge", _acknowledge_the_end)],
    "no barrier": [(Primary, "order_barrier", _no_barrier_entry)],
    "served before the barrier": [(Primary, "order_barrier", _serve_before_the_barrier)],
    "replay past the commit point": [(ShardReplica, "recovered", _recovered_past_commit)],
    "a primary resumes its epoch": [(Reconfigurer, "tend", _resume_the_epoch)],
    "the incarnation is ignored": [(ReplicaState, "own_member", _any_incarnation)],
    "an incomplete recruit takes over": [(Backup, "is_complete", _yes)],
    "a recruit in the takeover": [(Backup, "watch", _recruit_in_takeover)],
    "a learner without sessions": [(Primary, "_on_learner_ack", _any_session)],
    "a snapshot keeps the tail": [(ShardLog, "restart_at", _restart_keeping_the_tail)],
    "a copy without marks of deletions": [(Disk, "put", _put_without_marks)],
    "no request ids": [(RequestWindow, "find", lambda self, request_id: None)],
    "request ids are not copied": [(RequestWindow, "restore", lambda *_: None)],
    "refusals are forgotten": [(RequestWindow, "was_refused", lambda *_: False)],
    "an attempt outlives its primary's reign": [(Primary, "_require_own_reign", _yes)],
    "a retry from before the window is executed": [(RequestWindow, "reaches_back", _yes)],
    "swaps are not fenced": [
        (Store, "_land", _swap_without_fence),
        (Store, "_give_up", _late_outcome_is_lost),
    ],
    **MUTANTS_BESIDE,
}

# Of those without a trace: a seed whose run finds it.
KNOWN_SEEDS: dict[str, int] = {
    "a primary reads without a lease": 4,
    "a backup reads without a lease": 45,
    "a backup reads dirty keys": 0,
    "a refusal does not wait": 3,
    "a refusal needs no lease": 405,
    "a lease from some members": 33,
    "no wait after a boot": 48,
    "a challenge without grace": 0,
    "a removal does not wait for the read lease": 5,
    "acknowledged before the sync": 0,
    "commit by majority": 0,
    "no epoch check": 193,
    "acknowledgements of old epochs": 178,
    "the end of the log is acknowledged": 2,
    "served before the barrier": 1,
    "replay past the commit point": 5,
    "a primary resumes its epoch": 0,
    "the incarnation is ignored": 1,
    "an incomplete recruit takes over": 43,
    "a recruit in the takeover": 3,
    "no request ids": 0,
    "request ids are not copied": 1445,
    "a retry from before the window is executed": 356,
    "a list names no epoch": 173,
    "a list needs no lease": 13,
    "damage is taken for a torn tail": 1,
    "damaged bytes are served": 6,
    "a failed sync is passed over": 0,
    "split with a tail": 29,
    "half a shard answers for the whole": 7,
    "a half is made beside the unsplit shard": 8,
    "replay passes over a split": 7,
    "replay assigns all to the first half": 73,
    "what was given up takes part again": 418,
    "a half forgets in which epoch it acted": 83,
    "a primary reads a damaged index": 14,
    "a backup reads a damaged index": 6,
    "a damaged index is copied": 16,
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The bug `name` is in the code for the length of the block."""
    patches = MUTANTS[name]
    originals = [(owner, attribute, getattr(owner, attribute)) for owner, attribute, _ in patches]
    for owner, attribute, instead in patches:
        setattr(owner, attribute, instead)
    try:
        yield
    finally:
        for owner, attribute, original in originals:
            setattr(owner, attribute, original)
