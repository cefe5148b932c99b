"""The formats of the failover core are newer versions of the running ones, nothing else."""

from __future__ import annotations

import msgspec
import pytest

from octad.sharding.ids import Epoch, Seq, ShardId
from octad.storage_node.core import index_format, messages, record_format, replication_messages
from octad.storage_node.core.failover import index_format as newer_index
from octad.storage_node.core.failover import lease_messages
from octad.storage_node.core.failover import replication_messages as newer_messages
from octad.storage_node.core.failover.operations import LOG_START, LogStart, decode_log_start

SHARD, EPOCH, SEQ = ShardId(1), Epoch(3), Seq(7)
OLDER = (SHARD, EPOCH, EPOCH, SEQ, EPOCH, Seq(6), 2, b"r" * 16, b"m")


def test_a_running_prepare_is_read_as_one_of_a_member() -> None:
    data = msgspec.msgpack.encode(replication_messages.Prepare(*OLDER))
    newer = msgspec.msgpack.decode(data, type=newer_messages.Prepare)
    assert newer == newer_messages.Prepare(*OLDER, session=0)


def test_the_running_core_reads_a_newer_prepare() -> None:
    data = msgspec.msgpack.encode(newer_messages.Prepare(*OLDER, session=5))
    assert messages.decode_message(data) == replication_messages.Prepare(*OLDER)


def test_a_running_acknowledgement_is_one_of_a_whole_member() -> None:
    ack = replication_messages.Ack(SHARD, EPOCH, SEQ)
    data = msgspec.msgpack.encode(replication_messages.Acks([ack]))
    (newer,) = msgspec.msgpack.decode(data, type=newer_messages.Acks).acks
    assert (newer.upto, newer.session, newer.whole) == (SEQ, 0, True)


def test_a_running_shard_state_is_a_whole_one() -> None:
    data = index_format.encode_value(index_format.ShardState(SEQ, EPOCH, EPOCH))
    newer = newer_index.decode_shard_state(data)
    assert newer == newer_index.ShardState(SEQ, EPOCH, EPOCH, Seq(0), Epoch(0), None, None)
    again = index_format.encode_value(newer)
    assert index_format.decode_shard_state(again) == index_format.ShardState(SEQ, EPOCH, EPOCH)


def test_a_log_start_has_a_record_kind_of_its_own() -> None:
    assert LOG_START not in set(record_format.RecordKind)
    assert decode_log_start(msgspec.msgpack.encode(LogStart(SEQ))) == LogStart(SEQ)


@pytest.mark.parametrize(
    "kind",
    [
        newer_messages.Join,
        newer_messages.SessionStart,
        lease_messages.Beat,
        lease_messages.BeatAnswer,
    ],
)
def test_no_message_is_registered_before_the_shell_is_switched(
    kind: type[messages.Message],
) -> None:
    registered = messages.registered_messages()
    assert kind not in registered.values()
    assert kind.__struct_config__.tag not in registered
