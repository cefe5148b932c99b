"""Rules R21 and R22: guards, what their refusals wait for, and which of these are entries."""

from __future__ import annotations

import pytest
from tests.unit.replication.single_replicas import (
    KEY,
    A,
    B,
    C,
    acknowledge,
    beat_each_other,
    durable,
    follower,
    leader,
    proposed,
    put,
)

from octad.sharding.ids import BucketId, Epoch, Seq
from octad.sharding.limits import LEASE_S, RPC_TRANSIT_S_MAX, SDK_RETRY_AGE_S
from octad.storage_node.index.rows import UploadRow
from octad.storage_node.operations.index_changes import (
    DeleteObject,
    Operation,
    Refused,
    create_upload,
    touched,
)
from octad.storage_node.replication.guards import GuardRefuses, Refusal
from octad.storage_node.replication.prepared_rows import PreparedRows
from octad.storage_node.replication.reconfiguration import Plan
from octad.storage_node.replication.replica.shard_replica import ShardReplica
from octad.storage_node.replication.replica_actions import (
    Actions,
    AlreadyOrdered,
    AlreadyRefused,
    NotServing,
    OutcomeUnknown,
)
from octad.storage_node.replication.replica_state import ReadTicket
from octad.storage_node.replication.request_window import (
    REQUEST_IDS_MAX,
    RequestWindow,
    refusal_of,
    refused_at,
    seq_of,
)
from octad.storage_node.replication.shard_log import NO_REQUEST
from octad.storage_node.replication.writes import ANY_EPOCH, Write, write_of


class NoRows:
    """An index without any."""

    def get(self, key: bytes) -> None:
        return None

    def scan(self, start: bytes, end: bytes | None) -> list[tuple[bytes, bytes]]:
        return []


BUCKET = BucketId(1)
ROWS = NoRows()
CODE = 7
DELETION = DeleteObject(BUCKET, b"key")


def guarded(number: int, asked_in: Epoch = ANY_EPOCH, age_s: float = 0.0) -> Write:
    """Deletes the object only where it is absent: it shows what the guard sees, by its answer."""

    def absent(rows: PreparedRows) -> Operation | Refusal:
        return DELETION if rows.get(KEY) is None else Refusal(CODE, "it is there")

    request_id = number.to_bytes(16, "big")
    return write_of(DELETION, request_id, b"", age_s, asked_in, absent)


def refused(primary: ShardReplica, write: Write) -> ReadTicket:
    with pytest.raises(GuardRefuses) as no:
        primary.decide(write, ROWS, 1.0)
    assert no.value.refusal.code == CODE
    return no.value.ticket


def led() -> ShardReplica:
    """By A, with B's promise at 1.0."""
    primary = leader((A, B))
    beat_each_other(primary, follower(B, primary), 1.0)
    return primary


def commit(primary: ShardReplica, actions: Actions) -> None:
    durable(primary, actions)
    acknowledge(primary, B)


def test_r21_a_refusal_waits_for_what_it_was_decided_on() -> None:
    primary = led()
    _, actions = put(primary)
    write = guarded(9)
    ticket = refused(primary, write)
    assert not primary.refuse_request(write.request_id, ticket, CODE, 1.0)
    commit(primary, actions)
    assert primary.refuse_request(write.request_id, ticket, CODE, 1.0)
    with pytest.raises(AlreadyRefused) as again:
        primary.decide(write, ROWS, 1.0)
    assert again.value.code == CODE


def test_r21_a_refusal_waits_for_the_newest_entry_of_any_row_that_it_saw() -> None:
    primary = led()
    opened = [create_upload(BUCKET, b"key", bytes([n]) * 16, UploadRow(1, "")) for n in (1, 2)]
    keys = [touched(operation)[0] for operation in opened]
    for number, operation in enumerate(opened, 1):
        primary.propose(write_of(operation, number.to_bytes(16, "big")))
    end = primary.log.end
    for looked_at in (keys, keys[::-1]):
        ticket = primary.primary.refusal_ticket(looked_at, 1.0)
        assert ticket is not None
        assert ticket.wait_for == end
    ticket = primary.primary.refusal_ticket(keys[:1], 1.0)
    assert ticket is not None
    assert ticket.wait_for == end - 1


def test_r21_what_a_guard_accepts_on_prepared_rows_waits_for_nothing() -> None:
    primary = led()
    put(primary)
    entry, _ = primary.propose(write_of(DELETION, b"a deletion      "))
    accepted = primary.decide(guarded(9), ROWS, 1.0)
    assert primary.propose(accepted)[0].seq == entry.seq + 1


def test_r21_no_lease_no_refusal() -> None:
    primary = led()
    put(primary)
    with pytest.raises(NotServing):
        primary.decide(guarded(9), ROWS, 1.0 + 2 * LEASE_S)


def test_r21_the_request_is_looked_for_before_the_guard() -> None:
    primary = led()
    write = guarded(9)
    primary.propose(primary.decide(write, ROWS, 1.0))
    put(primary)
    with pytest.raises(AlreadyOrdered):
        primary.decide(write, ROWS, 1.0)


def test_r21_a_request_is_not_refused_when_another_attempt_of_it_was_ordered() -> None:
    primary = led()
    _, actions = put(primary)
    write = guarded(9)
    ticket = refused(primary, write)
    primary.propose(write_of(DELETION, b"a deletion      "))
    primary.propose(primary.decide(write, ROWS, 1.0))
    commit(primary, actions)
    assert not primary.refuse_request(write.request_id, ticket, CODE, 1.0)


def test_r21_an_attempt_is_executed_only_under_the_term_in_which_it_was_made() -> None:
    primary = leader((A, B), incarnations={C: "disk3"})
    assert primary.primary.term == 2
    with pytest.raises(NotServing):
        primary.decide(guarded(7, Epoch(1)), ROWS, 1.0)
    primary.propose(primary.decide(guarded(7, Epoch(2)), ROWS, 1.0))
    primary.on_plan(Plan((A, B, C), A, 0))
    beat_each_other(primary, follower(B, primary), 1.0)
    swap = proposed(primary.on_timer(1.0))
    primary.on_swap_outcome(swap, swap.proposed, 1.0)
    primary.decide(guarded(8, Epoch(2)), ROWS, 1.0)
    primary.decide(guarded(9, Epoch(3)), ROWS, 1.0)


def test_r21_so_many_refusals_that_some_are_forgotten_make_older_requests_unknown() -> None:
    primary = led()
    ticket = primary.primary.refusal_ticket([KEY], 1.0)
    assert ticket is not None
    for number in range(1, REQUEST_IDS_MAX + 2):
        assert primary.refuse_request(number.to_bytes(16, "big"), ticket, CODE, 1.0)
    with pytest.raises(OutcomeUnknown):
        primary.check_retry((1).to_bytes(16, "big"), 0.5, 1.4 + RPC_TRANSIT_S_MAX)
    primary.check_retry(b"x" * 16, 0.3, 1.4 + RPC_TRANSIT_S_MAX)


def test_r21_what_has_no_id_is_refused_alone_and_no_other_such_request_with_it() -> None:
    primary = led()
    ticket = primary.primary.refusal_ticket([KEY], 1.0)
    assert ticket is not None
    assert primary.refuse_request(NO_REQUEST, ticket, CODE, 1.0)
    assert guarded(0).request_id == NO_REQUEST
    assert primary.decide(guarded(0), ROWS, 1.0).operation is DELETION


def test_r22_the_refusal_of_an_sdks_later_attempt_is_an_entry_that_every_attempt_finds() -> None:
    primary = led()
    put(primary)
    later = primary.decide(guarded(9, age_s=SDK_RETRY_AGE_S), ROWS, 1.0)
    assert later.operation == Refused(BUCKET, b"key", CODE)
    entry, actions = primary.propose(later)
    with pytest.raises(AlreadyOrdered) as found:
        primary.decide(guarded(9), ROWS, 1.0)
    assert (found.value.entry, found.value.refusal) == (entry, CODE)
    commit(primary, actions)
    primary.on_applied(entry.seq, 1.0)
    with pytest.raises(AlreadyOrdered) as found:
        primary.check_retry(later.request_id, 0.5, 1.0)
    assert (found.value.entry, found.value.refusal) == (None, CODE)


def test_r22_a_remembered_refusal_becomes_an_entry_for_an_sdks_later_attempt() -> None:
    primary = led()
    _, actions = put(primary)
    first = guarded(9)
    ticket = refused(primary, first)
    commit(primary, actions)
    assert primary.refuse_request(first.request_id, ticket, CODE, 1.0)
    later = primary.decide(guarded(9, age_s=SDK_RETRY_AGE_S), ROWS, 1.0)
    assert later.operation == Refused(BUCKET, b"key", CODE)
    primary.propose(later)


def test_r22_refusals_are_no_entries_while_a_node_could_not_read_them() -> None:
    primary = led()
    put(primary)
    with pytest.raises(GuardRefuses):
        primary.decide(guarded(9, age_s=SDK_RETRY_AGE_S), ROWS, 1.0, may_write_refusals=False)


def test_r22_what_a_copy_takes_along_says_which_requests_were_refused() -> None:
    window, other = RequestWindow(), RequestWindow()
    window.add(b"executed", Seq(5))
    window.add(b"refused", refused_at(Seq(6), CODE))
    window.applied([b"executed", b"refused"], 1.0)
    other.restore(window.pairs(), 1.0)
    found = [other.find(each) for each in (b"executed", b"refused")]
    assert [(seq_of(each), refusal_of(each)) for each in found if each] == [(5, 0), (6, CODE)]


def test_r21_an_attempt_that_is_never_refused_is_executed_whenever_it_was_made() -> None:
    primary = leader((A, B))
    assert primary.primary.term == 2
    primary.propose(write_of(DELETION, bytes(15) + b"7", asked_in=Epoch(1)))
