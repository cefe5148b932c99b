"""Planted bugs in splits, lists, damage and recoveries by force: the other part of `mutants.py`."""

from __future__ import annotations

from typing import Any

from tests.simulation.model.node_disk import NodeDisk, ShardIndex, key_hash
from tests.simulation.model.simulated_node import Process

from octad.sharding.ids import Epoch, NodeId, Seq, ShardId
from octad.sharding.map.shard_map import ShardConfiguration
from octad.storage_node.replication.pair_leases import PairLeases
from octad.storage_node.replication.replica.shard_backup import Backup
from octad.storage_node.replication.replica.shard_drain import Drain
from octad.storage_node.replication.replica.shard_history import ShardHistory
from octad.storage_node.replication.replica.shard_primary import Primary
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica.shard_splitter import Splitter, ancestors
from octad.storage_node.replication.replica_actions import Actions, SplitLog, commit_to
from octad.storage_node.replication.replica_state import ReadTicket
from octad.storage_node.replication.shard_log import ShardLog

Patch = tuple[Any, str, Any]  # (owner, attribute, what stands there instead)


def _yes(*_: Any) -> bool:
    return True


def _no(*_: Any) -> bool:
    return False


# -- splits ------------------------------------------------------------------------------------


def _split_keeping_the_tail(splitter: Splitter, seq: Seq) -> Actions:
    splitter.due = True
    return commit_to(splitter.log, seq) + splitter.split_if_due()


def _half_with_a_tail(log: ShardLog) -> ShardLog:
    half = ShardLog(log.applied, log.applied_epoch)
    half.start, half.start_epoch = log.start, log.start_epoch
    half.requests = log.requests.half()
    return half


def _split_if_due_keeping_the_tail(splitter: Splitter) -> Actions:
    truncate, ShardLog.truncate = ShardLog.truncate, lambda log, seq: None  # type: ignore
    try:
        return _split_if_due(splitter)
    finally:
        ShardLog.truncate = truncate  # type: ignore[method-assign]


_split_if_due = Splitter.split_if_due


def _promised_for_what_it_was(leases: PairLeases, node: NodeId, shard: ShardId, now: float) -> bool:
    parts = [shard, *(ancestor for ancestor, _ in ancestors(shard))]
    return any(_promised_by(leases, node, part, now) for part in parts)


_promised_by = PairLeases.promised_by


def _covers_what_it_was(splitter: Splitter, hash_: int) -> bool:
    return hash_ & 1 == splitter.place.shard & 1


def _replay_the_first_half(process: Process, replica: ShardReplica, entries: Any) -> None:
    disk = process.disk
    splits = [record for record in disk.journal if record.split and record.shard == replica.shard]
    if not process.recovering or not splits:
        _apply(process, replica, entries)
        return
    put, mask = disk.put, (1 << splits[0].split[0]) - 1  # type: ignore[index]

    def put_in_first_half(index: ShardIndex, key: bytes, seq: Seq, value: str | None) -> None:
        if key_hash(key) & mask == replica.shard:
            put(index, key, seq, value)

    disk.put = put_in_first_half  # type: ignore[method-assign]
    _apply(process, replica, entries)
    del disk.put


_apply = Process._apply


# -- lists, damage -----------------------------------------------------------------------------


def _list_under_any_epoch(primary: Primary, epoch: Epoch, now: float) -> ReadTicket | None:
    return _begin_list(primary, primary.place.epoch, now)


def _list_without_lease(primary: Primary, epoch: Epoch, now: float) -> ReadTicket | None:
    return ReadTicket(epoch, primary.log.commit) if primary.leads(epoch) else None


_begin_list = Primary.begin_list


def _holds_all_that_changes(leases: PairLeases, now: float) -> bool:
    blocked, leases._blocked = leases._blocked, {}
    try:
        return _holds_all(leases, now)
    finally:
        leases._blocked = blocked


def _holds_what_it_led_before(leases: PairLeases, now: float) -> bool:
    led = [peer for peer in leases._peers.values() if peer.led]
    return not leases._blocked and all(now < peer.promised_until for peer in led)


_holds_all = PairLeases.holds_all


def _cut_off_at_the_damage(disk: NodeDisk) -> bool:
    if disk.damaged in disk.journal:
        disk.end_at(disk.journal.index(disk.damaged))
    disk.damaged = None
    return True


def _synced_all_the_same(process: Process, begun: int, told: list[Any]) -> None:
    """The kernel has dropped what it could not write, and says so once."""
    if process.disk.failing:
        process.disk.end_at(process.disk.synced)
    process.disk.failing = False
    _synced(process, begun, told)


_synced = Process._synced


def _act_on_what_was_given_up(history: ShardHistory, configuration: ShardConfiguration) -> None:
    _learn_recoveries(history, configuration)
    history.void = False


_learn_recoveries = ShardHistory.learn_recoveries


def _inherit_without_epoch(half: Splitter, split: SplitLog) -> None:
    _inherit(half, split)
    half.history.acted_epoch = Epoch(0)


_inherit = Splitter.inherit


def _as_if_readable(method: Any) -> Any:
    """The method of a part that does not know of the damaged index."""

    def instead(part: Any, *args: Any) -> Any:
        history = part if isinstance(part, ShardHistory) else part.history
        rowless, history.rowless = history.rowless, False
        try:
            return method(part, *args)
        finally:
            history.rowless = rowless

    return instead


MUTANTS_BESIDE: dict[str, list[Patch]] = {
    "a primary reads a damaged index": [
        (Primary, "serves", _as_if_readable(Primary.serves)),
        (ShardReplica, "read_holds", _as_if_readable(ShardReplica.read_holds)),
    ],
    "a backup reads a damaged index": [
        (Backup, "has_read_lease", _as_if_readable(Backup.has_read_lease)),
        (ShardReplica, "read_holds", _as_if_readable(ShardReplica.read_holds)),
    ],
    "a damaged index is copied": [
        (ShardHistory, "source_as_of", _as_if_readable(ShardHistory.source_as_of)),
    ],
    "what was given up takes part again": [
        (ShardHistory, "learn_recoveries", _act_on_what_was_given_up),
        (ShardConfiguration, "has_given_up", _no),
    ],
    "a half forgets in which epoch it acted": [(Splitter, "inherit", _inherit_without_epoch)],
    "a list names no epoch": [(Primary, "begin_list", _list_under_any_epoch)],
    "a list needs no lease": [
        (Primary, "begin_list", _list_without_lease),
        (ShardReplica, "read_holds", _yes),
    ],
    "a list behind the commit point": [(Primary, "shows", _yes)],
    "shards are listed together that a swap may change": [
        (PairLeases, "holds_all", _holds_all_that_changes),
    ],
    "shards are listed together that were not promised yet": [
        (PairLeases, "holds_all", _holds_what_it_led_before),
    ],
    "damage is taken for a torn tail": [(NodeDisk, "is_whole", _cut_off_at_the_damage)],
    "damaged bytes are served": [(NodeDisk, "is_flipped", _no)],
    "a failed sync is passed over": [(Process, "_synced", _synced_all_the_same)],
    "split with a tail": [
        (Drain, "drained", _yes),
        (Splitter, "split_behind", _split_keeping_the_tail),
        (Splitter, "split_if_due", _split_if_due_keeping_the_tail),
        (ShardLog, "half", _half_with_a_tail),
    ],
    "promises are carried over a split": [(PairLeases, "promised_by", _promised_for_what_it_was)],
    "half a shard answers for the whole": [(Splitter, "covers", _covers_what_it_was)],
    "a half is made beside the unsplit shard": [(Process, "_unsplit", lambda *_: None)],
    "a late split forgets the tail": [(Splitter, "_inherited", lambda self, _: self.log.commit)],
    "replay passes over a split": [(Splitter, "recover_split", lambda *_: [])],
    "replay assigns all to the first half": [(Process, "_apply", _replay_the_first_half)],
}
