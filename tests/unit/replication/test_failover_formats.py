"""What an octad without failover wrote and sent is read as the case in which nothing had failed."""

from __future__ import annotations

import msgspec

from octad.sharding.ids import Epoch, Seq, ShardId
from octad.storage_node.index.index_format import decode_shard_state, encode_value
from octad.storage_node.journal.shard_state import ShardState
from octad.storage_node.operations.index_changes import LogStart, decode_log_start
from octad.storage_node.replication.replication_messages import Ack, Prepare, Prepares
from octad.storage_node.rpc.messages import decode_message

SHARD, EPOCH, SEQ = ShardId(1), Epoch(3), Seq(7)


def test_a_prepare_without_a_session_is_one_of_a_member() -> None:
    fields = (SHARD, EPOCH, EPOCH, SEQ, EPOCH, Seq(6), 2, b"r" * 16, b"m", 5)
    read = decode_message(msgspec.msgpack.encode([22, [fields]]))
    assert read == Prepares([Prepare(*fields, session=0)])


def test_an_acknowledgement_without_a_session_is_one_of_a_full_member() -> None:
    read = msgspec.msgpack.decode(msgspec.msgpack.encode([SHARD, EPOCH, SEQ]), type=Ack)
    assert read == Ack(SHARD, EPOCH, SEQ, session=0, complete=True)


def test_a_shard_state_without_a_start_is_a_complete_one() -> None:
    read = decode_shard_state(encode_value([SEQ, EPOCH, EPOCH]))
    assert read == ShardState(SEQ, EPOCH, EPOCH, Seq(0), Epoch(0), None, None)


def test_a_log_start_comes_back_as_it_was_written() -> None:
    assert decode_log_start(msgspec.msgpack.encode(LogStart(SEQ))) == LogStart(SEQ)
