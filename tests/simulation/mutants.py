"""Planted bugs, one for each rule: a simulator that does not find them proves nothing.

Each is a set of attributes replaced for the length of a run. `KNOWN_SEEDS` names a seed that finds
it; those that random schedules hardly ever hit have a directed trace in `traces.py` instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.simulation.model.node_disk import NodeDisk, ShardIndex
from tests.simulation.model.simulated_node import Process
from tests.simulation.model.simulated_store import Store
from tests.simulation.mutants_beside import MUTANTS_BESIDE, Patch
from tests.simulation.mutants_of_guards import MUTANTS_OF_GUARDS

from octad.sharding.ids import Epoch, NodeId, Seq, ShardId
from octad.sharding.limits import GRACE_S, LEASE_S
from octad.sharding.map.shard_map import Member, ShardConfiguration
from octad.storage_node.replication import pair_leases, reconfiguration
from octad.storage_node.replication.pair_leases import NEVER, PairLeases
from octad.storage_node.replication.replica.shard_backup import Backup
from octad.storage_node.replication.replica.shard_followers import Followers
from octad.storage_node.replication.replica.shard_history import ShardHistory
from octad.storage_node.replication.replica.shard_leases import ShardLeases
from octad.storage_node.replication.replica.shard_primary import Primary
from octad.storage_node.replication.replica.shard_reconfigurer import Reconfigurer
from octad.storage_node.replication.replica.shard_replay import Replay
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import Actions, SendAck, Swap, commit_to
from octad.storage_node.replication.replica_state import Place, ReadTicket
from octad.storage_node.replication.request_window import RequestWindow
from octad.storage_node.replication.shard_log import ShardLog


def _configuration(part: Backup | Primary) -> ShardConfiguration:
    assert part.place.configuration is not None
    return part.place.configuration


def _yes(*_: Any) -> bool:
    return True


# -- reads and leases --------------------------------------------------------------------------


def _has_read_lease_without_grant(backup: Backup, now: float) -> bool:
    member = backup.place.member
    return member is not None and member.base == 0 and not backup.place.is_primary()


def _dirty_ticket(backup: Backup, key: bytes, now: float) -> ReadTicket | None:
    if not backup.has_read_lease(now):
        return None
    return ReadTicket(backup.place.epoch, Seq(0))


def _clean_ticket(backup: Backup, key: bytes, _: float) -> ReadTicket | None:
    return None if key in backup.log.dirty else ReadTicket(backup.place.epoch, Seq(0))


def _holds_at_any_epoch(replica: ShardReplica, ticket: ReadTicket, now: float) -> bool:
    return replica.has_lease(now) if replica.leading else replica.backup.has_read_lease(now)


def _early_refusal(primary: Primary, keys: list[bytes], now: float) -> ReadTicket | None:
    ticket = _refusal_ticket(primary, keys, now)
    return ticket and ReadTicket(ticket.epoch, Seq(0))


_refusal_ticket = Primary.refusal_ticket


def _refuse_without_lease(
    primary: Primary, request: bytes, ticket: ReadTicket, _code: int, _now: float
) -> bool:
    return primary.log.commit >= ticket.wait_for


def _ticket_without_lease(primary: Primary, keys: list[bytes], now: float) -> ReadTicket | None:
    if not primary.leading:
        return None
    newest = [entry.seq for entry in map(primary.log.newest, keys) if entry is not None]
    return ReadTicket(primary.place.epoch, max(newest, default=Seq(0)))


def _some_promised(leases: ShardLeases, members: tuple[Member, ...], now: float) -> bool:
    others = [member.node for member in members if member.node != leases.place.node]
    return not others or any(leases.promised_by(node, now) for node in others)


def _lease_of_the_row_alone(primary: Primary, now: float) -> bool:
    return primary.leading and primary.leases.promised(_configuration(primary).members, now)


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


def _watch_and_promise(backup: Backup, now: float) -> Actions:
    configuration, place = _configuration(backup), backup.place
    if place.learning:
        return backup.session.ask(configuration.primary, now)
    if place.member is None or not backup.may_take_over(now):
        return []
    taken = reconfiguration.taken_over(configuration, place.node, backup.log.commit)
    return backup.swaps.submit(Swap(configuration, taken), now)


# -- the log -----------------------------------------------------------------------------------


def _take_and_call_it_durable(backup: Backup, sent: Any) -> Actions:
    actions = _take(backup, sent)
    backup.log.durable = backup.log.end
    return actions


_take = Backup._take


def _advance_by_majority(primary: Primary) -> Actions:
    if primary.swaps.pending is not None:
        return []
    acked = sorted(primary.followers.match.values(), reverse=True)
    committed = acked[len(acked) // 2]
    if committed <= primary.log.commit:
        return []
    return commit_to(primary.log, Seq(min(committed, primary.log.end)))


def _advance_under_a_swap(primary: Primary) -> Actions:
    swaps = primary.swaps
    pending, swaps.pending = swaps.pending, None
    try:
        return _advance(primary)
    finally:
        swaps.pending = pending


_advance = Primary.advance


def _refuse_nothing_old(backup: Backup, sender: NodeId, epoch: Epoch) -> Actions | None:
    place = backup.place
    if place.configuration is None or epoch >= place.epoch:
        return _refuse(backup, sender, epoch)
    leading, *_ = backup.leases.pairs._places.get(place.shard, (False,))
    if leading or place.member is None or sender == place.node:
        return []
    return None


_refuse = Backup.refuse


def _acknowledge_the_end(backup: Backup) -> Actions:
    complete = backup.history.complete_to is None
    return [
        SendAck(_configuration(backup).primary, backup.log.durable, backup.session.number, complete)
    ]


def _no_barrier_entry(primary: Primary) -> Actions:
    primary.barrier = primary.log.end
    return []


def _serve_before_the_barrier(primary: Primary) -> Actions:
    actions = _order_barrier(primary)
    primary.barrier = Seq(0)
    return actions


_order_barrier = Primary.order_barrier


def _recovered_past_commit(replay: Replay) -> Actions:
    replay.log.commit = replay.log.end
    return _recovered(replay)


_recovered = Replay.recovered


def _resume_the_epoch(reconfigurer: Reconfigurer, now: float) -> Actions:
    if not reconfigurer.primary.leading:
        return reconfigurer.primary.lead(goes_on=False)
    return _tend(reconfigurer, now)


_tend = Reconfigurer.tend


def _any_incarnation(place: Place) -> Member | None:
    return place.configuration.member(place.node) if place.configuration is not None else None


def _recruit_in_takeover(replica: ShardReplica, now: float) -> Actions:
    configuration, log, place = replica.configuration, replica.log, replica.place
    if configuration is None or replica.swaps.pending or place.is_primary() or place.member is None:
        return _on_timer(replica, now)
    if not replica.backup.may_take_over(now):
        return []
    replica.leases.forget()
    taken = reconfiguration.taken_over(configuration, place.node, log.commit)
    spare = replica.reconfigurer.spares.choose(replica.shard, taken, ())
    if spare is not None and configuration.member(spare.node) is None:
        epoch = log.epoch_at(log.commit)
        assert epoch is not None
        recruit = Member(spare.node, spare.incarnation, Seq(log.commit + 1), epoch)
        taken = reconfiguration.with_recruit(taken, recruit)
    return replica.swaps.submit(Swap(configuration, taken), now)


_on_timer = ShardReplica.on_timer


def _any_session(
    followers: Followers, sender: NodeId, upto: Seq, _: int, complete: bool
) -> Actions:
    acked = followers.sessions.acked
    if sender in followers.sessions.numbers:
        acked[sender] = max(acked[sender], upto)
        if complete:
            followers.has_become_complete(sender)
    return []


def _restart_keeping_the_tail(log: ShardLog, start: Seq, epoch: Epoch) -> None:
    tail = [entry for entry in log.entries if entry.seq > start]
    _restart_at(log, start, epoch)
    for entry in tail:
        entry.settled = False
        log.append(entry)
    log.durable = log.end


_restart_at = ShardLog.restart_at


def _put_without_marks(
    disk: NodeDisk, _: ShardIndex, key: bytes, seq: Seq, value: str | None
) -> None:
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
    "a lease from some members": [(ShardLeases, "promised", _some_promised)],
    "no lease from proposed members": [(Primary, "has_lease", _lease_of_the_row_alone)],
    "the read lease is not derived": [(PairLeases, "_remaining", _full_lease_passed_on)],
    "beats without epochs": [(pair_leases, "pair_digest", _digest_without_epoch)],
    "no wait after a boot": [(PairLeases, "grace_end", _grace(boot=False, row=False))],
    "no wait after a new configuration": [(PairLeases, "grace_end", _grace(row=False))],
    "a challenge without grace": [(PairLeases, "grace_end", _grace(promise=False, row=False))],
    "a removal does not wait for the read lease": [
        (PairLeases, "grace_end", _grace(grant=False, row=False))
    ],
    "promises while challenging": [(Backup, "watch", _watch_and_promise)],
    "acknowledged before the sync": [(Backup, "_take", _take_and_call_it_durable)],
    "commit by majority": [(Primary, "advance", _advance_by_majority)],
    "commit under a swap": [(Primary, "advance", _advance_under_a_swap)],
    "no epoch check": [(Backup, "refuse", _refuse_nothing_old)],
    "acknowledgements of old epochs": [(Primary, "leads", lambda self, epoch: self.leading)],
    "the end of the log is acknowledged": [(Backup, "acknowledge", _acknowledge_the_end)],
    "no barrier": [(Primary, "order_barrier", _no_barrier_entry)],
    "served before the barrier": [(Primary, "order_barrier", _serve_before_the_barrier)],
    "replay past the commit point": [(Replay, "recovered", _recovered_past_commit)],
    "a primary resumes its epoch": [(Reconfigurer, "tend", _resume_the_epoch)],
    "the incarnation is ignored": [(Place, "own_member", _any_incarnation)],
    "an incomplete recruit takes over": [(ShardHistory, "is_complete", _yes)],
    "a recruit in the takeover": [(ShardReplica, "on_timer", _recruit_in_takeover)],
    "a learner without sessions": [(Followers, "on_learner_ack", _any_session)],
    "a snapshot keeps the tail": [(ShardLog, "restart_at", _restart_keeping_the_tail)],
    "a copy without marks of deletions": [(NodeDisk, "put", _put_without_marks)],
    "no request ids": [(RequestWindow, "find", lambda self, request_id: None)],
    "request ids are not copied": [(RequestWindow, "restore", lambda *_: None)],
    "refusals are forgotten": [(RequestWindow, "was_refused", lambda *_: False)],
    "an attempt outlives its primary's term": [(Primary, "_require_own_term", _yes)],
    "a retry from before the window is executed": [(RequestWindow, "reaches_back", _yes)],
    "swaps are not fenced": [
        (Store, "_land", _swap_without_fence),
        (Store, "_give_up", _late_outcome_is_lost),
    ],
    **MUTANTS_OF_GUARDS,
    **MUTANTS_BESIDE,
}

# Of those without a trace: a seed whose run finds it.
KNOWN_SEEDS: dict[str, int] = {
    "a primary reads without a lease": 12,
    "shards are listed together that a swap may change": 0,
    "shards are listed together that were not promised yet": 0,
    "a backup reads without a lease": 45,
    "a backup reads dirty keys": 0,
    "a refusal does not wait": 4,
    "a refusal needs no lease": 243,
    "a lease from some members": 9,
    "no wait after a boot": 2,
    "a challenge without grace": 0,
    "a removal does not wait for the read lease": 2,
    "acknowledged before the sync": 0,
    "commit by majority": 0,
    "no epoch check": 313,
    "acknowledgements of old epochs": 195,
    "the end of the log is acknowledged": 54,
    "served before the barrier": 7,
    "replay past the commit point": 5,
    "a primary resumes its epoch": 3,
    "the incarnation is ignored": 1,
    "an incomplete recruit takes over": 29,
    "a recruit in the takeover": 17,
    "no request ids": 2,
    "request ids are not copied": 225,
    "a retry from before the window is executed": 9,
    "a condition is decided at the front door": 3,
    "an offset is checked at the front door": 8,
    "rows are read before the turn of the guard": 2,
    "a guard sees what is committed alone": 2,
    "a guard comes before the request's own memory": 3,
    "a guard is asked again when its entry is applied": 3,
    "a list names no epoch": 18,
    "a list needs no lease": 14,
    "damage is taken for a torn tail": 11,
    "damaged bytes are served": 7,
    "a failed sync is passed over": 0,
    "split with a tail": 51,
    "half a shard answers for the whole": 1,
    "a half is made beside the unsplit shard": 8,
    "replay passes over a split": 7,
    "replay assigns all to the first half": 7,
    "what was given up takes part again": 131,
    "a primary reads a damaged index": 14,
    "a backup reads a damaged index": 6,
    "a damaged index is copied": 33,
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
