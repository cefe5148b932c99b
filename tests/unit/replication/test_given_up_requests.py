"""A request whose entry was given up never happened: a retry of it is another one (rule R16)."""

from __future__ import annotations

from octad.sharding.ids import Epoch, Seq
from octad.storage_node.replication.shard_log import ShardLog

KEPT, GIVEN_UP = b"a" * 16, b"b" * 16


def test_a_log_that_begins_anew_does_not_know_ids_that_stand_above_its_start() -> None:
    """They came with a copy of a history whose end was lost in a recovery by force."""
    log = ShardLog(Seq(14), Epoch(1))
    log.requests.restore([(KEPT, Seq(14)), (GIVEN_UP, Seq(16))], 0.0)
    log.restart_at(Seq(14), Epoch(2))
    assert log.requests.find(KEPT) == 14
    assert log.requests.find(GIVEN_UP) is None
    assert log.requests.pairs() == [(KEPT, Seq(14))]
