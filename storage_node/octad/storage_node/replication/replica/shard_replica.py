"""One node's replica of one shard, as a state machine without I/O: what everything else talks to.

    primary:  propose ─ Append, SendPrepare to all ─ on_durable, on_ack ─ all have it ─ Apply
    backup:   on_prepare ─ Append ─ on_durable ─ SendAck … commit point learned ─ Apply
    anyone:  on_timer ─ SubmitSwap(of the configuration) ─ on_swap_outcome, or on_configuration

Feed it events (methods named `on_…`, and `propose`); each returns the actions for the shell to
perform, in order. Time arrives in the event. The numbered rules are in
`docs/reference/replication.md`. It is made of parts; each owns some state, which no other writes,
and has the transitions of that state:

    shard_log.py           entries, how far verified, durable, committed, applied
      request_window.py    ids of requests (R16)
    replica_state.py       the configuration, and this disk's place in it (R14)
    shard_history.py       complete, or copying; void, unreadable (R10, R12, R13, R19, R20)
    shard_leases.py        what promises between nodes allow in the shard (R4, R6, R7)
      pair_leases.py       the promises, one for all shards of a node (R5)
    log_ends.py            how far other logs go, after a restart (R23)
    pending_swap.py        the change of the configuration that is under way (R8, R9)
    shard_primary.py       orders, commits, reads (R2, R3, R4, R11, R15, R16)
      shard_followers.py   what the others have, and are sent again (R1b, R2)
      learner_sessions.py  sessions of learners, at both ends (R12)
      shard_drain.py       how it comes to a stand (R17, R18)
    shard_reconfigurer.py  when that changes, and into what (R7, R10, R12, R13, R17, R18)
      shard_spares.py      whom to take in (R10)
    shard_backup.py        takes Prepares, acknowledges, reads, takes over (R1, R2, R3, R6, R11)
    shard_splitter.py      splits the log in place (R18)
    shard_replay.py        records of the journal after a restart (R14)
"""

from __future__ import annotations

from collections.abc import Mapping

from octad.sharding.ids import Epoch, NodeId, Seq, ShardId
from octad.sharding.map.shard_map import ShardConfiguration
from octad.storage_node.replication.pair_leases import PairLeases
from octad.storage_node.replication.reconfiguration import Plan
from octad.storage_node.replication.replica.log_ends import LogEnds
from octad.storage_node.replication.replica.pending_swap import PendingSwap
from octad.storage_node.replication.replica.shard_backup import Backup
from octad.storage_node.replication.replica.shard_history import ShardHistory
from octad.storage_node.replication.replica.shard_leases import ShardLeases
from octad.storage_node.replication.replica.shard_primary import Primary
from octad.storage_node.replication.replica.shard_reconfigurer import Reconfigurer
from octad.storage_node.replication.replica.shard_replay import Replay
from octad.storage_node.replication.replica.shard_spares import Spares
from octad.storage_node.replication.replica.shard_splitter import Splitter
from octad.storage_node.replication.replica_actions import (
    Actions,
    LogEnd,
    SendNack,
    SplitLog,
    Swap,
    commit_to,
)
from octad.storage_node.replication.replica_state import (
    ChooseSpare,
    Place,
    ReadTicket,
    Strength,
)
from octad.storage_node.replication.shard_log import Entry, ShardLog

NEVER_ACTED = Epoch(0)


class ShardReplica:
    """Routes events to its parts. See the module.

    All methods are synchronous, cheap and without side effects outside.
    """

    def __init__(
        self,
        shard: ShardId,
        node: NodeId,
        incarnation: str,
        leases: PairLeases,
        strength: Strength,
        choose_spare: ChooseSpare,
        log: ShardLog,
        incarnations: Mapping[NodeId, str],
    ) -> None:
        self.shard = shard
        self.node = node
        self.log = log
        self.place = place = Place(shard, node, incarnation)
        self.history = history = ShardHistory(place, log)
        self.leases = ShardLeases(place, leases)
        self.ends = ends = LogEnds(place, log, self.leases)
        self.swaps = swaps = PendingSwap(self.leases)
        self.splitter = Splitter(place, log, history, swaps)
        self.primary = Primary(place, log, history, self.leases, swaps, strength)
        spares = Spares(place, log, self.leases, choose_spare, incarnations)
        self.reconfigurer = Reconfigurer(
            place, log, history, self.leases, swaps, self.primary, spares, ends
        )
        self.backup = Backup(place, log, history, self.leases, swaps, self.splitter, ends)
        self.replay = Replay(log, history, self.splitter)
        # Called for each request, so they save a call.
        self.decide = self.primary.decide
        self.propose = self.primary.propose
        self.serves = self.primary.serves
        self.has_lease = self.primary.has_lease
        self.covers = self.splitter.covers
        self.on_ack = self.primary.on_ack
        self.on_nack = self.primary.on_nack
        self.on_prepare = self.backup.on_prepare

    # -- what the parts know -------------------------------------------------------------------

    @property
    def configuration(self) -> ShardConfiguration | None:
        """The newest configuration known here."""
        return self.place.configuration

    @property
    def epoch(self) -> Epoch:
        """The epoch of the configuration known here."""
        epoch = self.place.epoch
        assert epoch, "no configuration is known"
        return epoch

    @property
    def leading(self) -> bool:
        """Whether this node is the primary of the configuration's epoch, by a swap of its own."""
        return self.primary.leading

    @property
    def complete_to(self) -> Seq | None:
        """Up to where the index has all of history; None: up to `applied`."""
        return self.history.complete_to

    @property
    def rowless(self) -> bool:
        """Whether the index is damaged (rule R20)."""
        return self.history.rowless

    @property
    def void(self) -> bool:
        """Whether it may show what an operator's recovery gave up (rule R19)."""
        return self.history.void

    @property
    def failed(self) -> bool:
        """Whether it hit a bug."""
        return self.place.failed

    @property
    def depth(self) -> int | None:
        """The depth to which the log here is split; None: as the first configuration says."""
        return self.splitter.depth

    # -- a beginning ---------------------------------------------------------------------------

    def restore(
        self,
        start: Seq,
        start_epoch: Epoch,
        complete_to: Seq | None,
        copied_as_of: Seq | None,
        depth: int | None = None,
        acted_epoch: Epoch = NEVER_ACTED,
    ) -> None:
        """What the index says of this replica, before its journal is replayed."""
        self.log.restore(start, start_epoch)
        self.history.restore(complete_to, copied_as_of, acted_epoch)
        self.splitter.restore(depth)

    def inherit(self, split: SplitLog) -> None:
        """This replica is the second half; it has been made with the log of `split`."""
        self.splitter.inherit(split)

    def recover(self, entry: Entry, committed: Seq) -> None:
        """Replay one entry, in the order of the journal."""
        self.replay.recover(entry, committed)

    def recover_start(
        self, start: Seq, epoch: Epoch, committed: Seq, complete_to: Seq, depth: int | None = None
    ) -> Actions:
        """Replay a record that `StartLog` wrote. Perform the actions before the next record."""
        return self.replay.recover_start(start, epoch, committed, complete_to, depth)

    def recover_split(self, depth: int, seq: Seq) -> Actions:
        """Replay a record that `SplitLog` wrote. Perform the actions before the next record."""
        return self.replay.recover_split(depth, seq)

    def recovered(self) -> Actions:
        """The journal is replayed to its end: everything read from it is durable."""
        self.ends.recovered()
        return self.replay.recovered()

    def commit_to(self, seq: Seq) -> Actions:
        """Another replica of the same log has applied everything up to `seq`."""
        return commit_to(self.log, seq)

    # -- the configuration ---------------------------------------------------------------------

    def on_configuration(self, configuration: ShardConfiguration, now: float) -> Actions:
        """The configuration store has this. One older than the known one changes nothing."""
        if self.place.failed or configuration.epoch <= self.place.epoch:
            return []
        held = self.splitter.held
        if held is not None and configuration.epoch < held.epoch:
            return []
        split = self.splitter.split_for(configuration)
        return (
            split
            if self.splitter.held is not None
            else split + self._on_configuration(configuration, now)
        )

    def _on_configuration(self, configuration: ShardConfiguration, now: float) -> Actions:
        pending, primary, place = self.swaps.pending, self.primary, self.place
        won = pending is not None and configuration == pending.proposed
        goes_on = won and primary.leading and not primary.drain.stopped
        actions: Actions = [] if goes_on else primary.step_down()
        self._enter(configuration, now)
        if won and configuration.primary == place.node:
            return actions + primary.lead(goes_on=goes_on)
        if place.member is None and not place.learning:
            self.leases.forget()
            return actions + self.history.learn_former(configuration)
        if configuration.primary == place.node:
            self.leases.forget()
            return actions + self.reconfigurer.tend(now)  # R15: passive until its own swap.
        self.leases.follow(configuration)
        actions += self.history.learn_former(configuration)
        if place.member is None:
            return actions + self.backup.watch(now)
        if place.member.base:
            actions += self.backup.begin_recruit(place.member)
        return [*actions, SendNack(configuration.primary, self.log.verified)]

    def _enter(self, configuration: ShardConfiguration, now: float) -> None:
        known = self.place.configuration
        self.history.learn_recoveries(configuration)
        self.place.enter(configuration, void=self.history.void)
        self.leases.enter(now)
        self.swaps.end()
        self.log.enter_epoch()
        self.ends.enter()
        self.backup.session.enter(
            learning=self.place.learning,
            same_primary=known is not None and configuration.primary == known.primary,
            skipped=known is not None and configuration.epoch > known.epoch + 1,
        )

    def on_swap_outcome(self, swap: Swap, configuration: ShardConfiguration, now: float) -> Actions:
        """What the store holds, now that `swap` has happened or can never happen (rule R8)."""
        place = self.place
        if place.failed:
            return []
        if place.configuration is None or configuration.epoch > place.epoch:
            return self.on_configuration(configuration, now)
        if self.swaps.pending is not swap:
            return []
        self.swaps.lose()
        if self.primary.leading:
            return self.primary.on_swap_lost()
        if not place.is_primary():
            self.leases.follow(place.configuration)
        return []

    def on_plan(self, plan: Plan | None) -> None:
        """What the coordinator wants the shard to become; None: what it is."""
        self.reconfigurer.on_plan(plan)

    def on_strength(self, strength: Strength) -> None:
        """How many copies the shard's pool keeps, and with how few a write is acknowledged."""
        self.primary.on_strength(strength)

    def may_contain(self, depth: int) -> bool:
        """Whether the log here is split to `depth` at most, or knows no configuration yet."""
        return self.splitter.may_contain(depth)

    def fail(self) -> Actions:
        """A bug has shown in this replica: what it believes may be wrong, so it acts no more.

        It is silent towards the others, who do without it; what is on its disk stays for the next
        start. Those who wait here try elsewhere.
        """
        self.place.fail()
        self.backup.session.over()
        return self.primary.step_down()

    def lose_rows(self) -> Actions:
        """The index is damaged, and is being rebuilt from the journal, which is intact.

        A primary hands its shard over at its next turn (rule R17); a member tells its primary at
        once that its copy does not count as verified.
        """
        self.history.lose_rows()
        return self.backup.acknowledge() if self._may_tell_primary() else []

    def regain_rows(self) -> Actions:
        """There is an index again that shows all that is applied; copies begin anew."""
        self.history.regain_rows()
        if self.place.learning:
            self.backup.session.lost()
        if not self._may_tell_primary():
            return []
        return [*self.history.copy_again(), *self.backup.acknowledge()]

    def _may_tell_primary(self) -> bool:
        """Whether this is a member that another node leads."""
        place = self.place
        if self.primary.leading or place.configuration is None or self.swaps.pending is not None:
            return False
        return place.member is not None and not place.is_primary()

    # -- time and connections ------------------------------------------------------------------

    def on_timer(self, now: float) -> Actions:
        """A few times a second: what silence means, and what there is to change."""
        place = self.place
        configuration = place.configuration
        if configuration is None or self.swaps.pending is not None or place.failed:
            return []
        if configuration.primary == place.node:
            return self.reconfigurer.tend(now) if place.member is not None else []
        return self.backup.watch(now)

    def on_connected(self, node: NodeId) -> Actions:
        """A new connection to `node`: what was on its way over the old one may be lost."""
        place = self.place
        if place.configuration is None or self.swaps.pending is not None:
            return []
        if self.reconfigurer.waits_for(node):
            return self.ends.ask([node])
        if place.configuration.primary != node:
            return []
        if place.learning:
            self.backup.session.lost()
            return []
        return [] if place.member is None else [SendNack(node, self.log.verified)]

    # -- other nodes ---------------------------------------------------------------------------

    def on_commit(self, sender: NodeId, epoch: Epoch, commit: Seq, commit_epoch: Epoch) -> Actions:
        """The primary's commit point, with the epoch of its entry."""
        return self.backup.on_commit(sender, epoch, commit, commit_epoch)

    def on_log_end(
        self, sender: NodeId, epoch: Epoch, end: LogEnd, asks: bool, now: float
    ) -> Actions:
        """Where the log of `sender` ends; it may have been waited for."""
        ends = self.ends
        actions = ends.hear(sender, epoch, end, asks=asks)
        waited_for = ends.restarted and not asks and end <= ends.own()
        return actions + self.on_timer(now) if waited_for else actions

    def on_join(self, sender: NodeId, epoch: Epoch, nonce: int) -> Actions:
        """A learner asks for a session."""
        return self.primary.on_join(sender, epoch, nonce)

    def on_session(
        self, sender: NodeId, epoch: Epoch, nonce: int, session: int, start: Seq, first: Epoch
    ) -> Actions:
        """The primary's answer: our log begins anew behind `start`, of epoch `first`."""
        return self.backup.on_session(sender, epoch, nonce, session, start, first)

    def announcement(self) -> Actions:
        """Tell everyone of a commit point that no Prepare has carried to them."""
        return self.primary.announcement()

    def copies_heard(self, now: float) -> list[NodeId]:
        """Members with all of history that acknowledged the barrier and were heard just now."""
        return self.primary.copies_heard(now)

    # -- history -------------------------------------------------------------------------------

    def wants_copy(self, start: Seq) -> bool:
        """Whether a copy behind `start` would be of use."""
        return self.history.wants_copy(start)

    def on_copied(
        self, start: Seq, as_of: Seq, request_ids: list[tuple[bytes, Seq]], now: float
    ) -> Actions:
        """Every row as of `as_of` or later is durable here, and `start` was asked for."""
        return self.backup.on_copied(start, as_of, request_ids, now)

    def source_as_of(self, start: Seq) -> Seq | None:
        """For a copy behind `start` from this replica: how recent it is at least; None: too old."""
        return self.history.source_as_of(start)

    # -- the disk ------------------------------------------------------------------------------

    def on_durable(self, entry: Entry) -> Actions:
        """The journal has synced `entry`. One that was truncated meanwhile counts for nothing."""
        log, primary = self.log, self.primary
        if not log.is_durable(entry):
            return []
        if not primary.leading:
            return self.backup.on_own_disk(entry.seq)
        primary.followers.we_have(log.durable)
        return primary.advance()

    def on_applied(self, upto: Seq, now: float) -> Actions:
        """The index holds every entry up to `upto`."""
        request_ids = self.log.applied_to(upto)
        if self.replay.applied_ids:
            request_ids = self.replay.take_applied_ids() + request_ids
        self.log.requests.applied(request_ids, now)
        if self.place.failed:
            return []
        history, splitter = self.history, self.splitter
        if history.wanted_start is not None:
            started = history.start_log(splitter.depth) + history.copy_again()
            return started + self._on_held_configuration(now)
        if splitter.due:
            return splitter.split_if_due() + self._on_held_configuration(now)
        return self.backup.check_complete() if history.copied_as_of is not None else []

    def _on_held_configuration(self, now: float) -> Actions:
        held = self.splitter.held
        return [] if held is None else self.on_configuration(held, now)

    # -- clients -------------------------------------------------------------------------------

    def check_retry(self, request_id: bytes, age_s: float, now: float) -> None:
        """Before any precondition is looked at (rule R16); raises when it was made before."""
        self.primary.check_retry(request_id, age_s, now)

    def refuse_request(self, request_id: bytes, ticket: ReadTicket, code: int, now: float) -> bool:
        """Whether the refusal may be answered now; then the request is never executed any more."""
        return self.primary.refuse_request(request_id, ticket, code, now)

    def begin_list(self, epoch: Epoch, now: float) -> ReadTicket | None:
        """When a request comes to read many keys at once, in `epoch` (rule R3); None: not here."""
        return self.primary.begin_list(epoch, now)

    def shows(self, ticket: ReadTicket) -> bool:
        """Whether the index has all that was committed when a list was asked for."""
        return self.primary.shows(ticket)

    def begin_read(self, key: bytes, now: float) -> ReadTicket | None:
        """Before the index is read (rule R3); None: this node may not answer, ask the primary."""
        primary = self.primary
        if primary.leading:
            return primary.primary_ticket(key, now)
        return self.backup.backup_ticket(key, now)

    def read_holds(self, ticket: ReadTicket, now: float) -> bool:
        """After it was read and before it is answered: whether it may be answered."""
        if self.place.epoch != ticket.epoch or self.log.commit < ticket.wait_for:
            return False
        if self.history.rowless:
            return False
        primary = self.primary
        if primary.leading:
            return not primary.drain.stopped and primary.has_lease(now)
        return self.backup.has_read_lease(now)
