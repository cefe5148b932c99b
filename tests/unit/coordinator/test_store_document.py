"""The examples of `docs/reference/configuration-store.md` are what the code writes, to the byte."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from octad.client.cluster.join_token import JoinToken
from octad.client.cluster.service_records import ServiceInstance
from octad.client.membership.lock_records import LockRecord
from octad.coordinator.schema.access_keys import access_key_record
from octad.coordinator.schema.node_report import NodeReport
from octad.coordinator.schema.records import (
    CLUSTERS,
    AccessKeyRecord,
    BucketRecord,
    BucketUsageRecord,
    DeathRecord,
    FenceRecord,
    FormatLevelRecord,
    IdentityRecord,
    KvUsageRecord,
    LeaderRecord,
    NodeRecord,
    PoolRecord,
    SessionRecord,
    StoreKeys,
    TopicRecord,
    TurnRecord,
)
from octad.coordinator.store.interface import LeaseId
from octad.sharding.ids import BucketId, NodeId, PoolId, shard_id
from octad.sharding.map.shard_map import decode_configuration, encode_configuration

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "reference" / "configuration-store.md"
EXAMPLE = re.compile(r"^### `([^`\n]+)`$.*?^```json\n([^\n]+)\n```$", re.MULTILINE | re.DOTALL)
KEYS = StoreKeys("1a2b3c4d")
THREE = NodeId(3)
SESSION = LeaseId(0x694D9B3A5F1C2E07)


def again(kind: type) -> Callable[[bytes], bytes]:
    return lambda data: msgspec.json.encode(msgspec.json.decode(data, type=kind))


WRITTEN_AGAIN: dict[str, Callable[[bytes], bytes]] = {
    CLUSTERS: again(list[str]),
    KEYS.pool(PoolId(0)): again(PoolRecord),
    KEYS.leader: again(LeaderRecord),
    KEYS.last_node_id: again(int),
    KEYS.identity(THREE): again(IdentityRecord),
    KEYS.node(THREE): again(NodeRecord),
    KEYS.service("web", "a"): again(ServiceInstance),
    KEYS.session(SESSION): again(SessionRecord),
    KEYS.claim("web/a", SESSION): again(ServiceInstance),
    KEYS.lock("reindex", SESSION): again(LockRecord),
    KEYS.kv_usage: again(KvUsageRecord),
    KEYS.fence(THREE): again(FenceRecord),
    KEYS.death(THREE): again(DeathRecord),
    KEYS.run(THREE): again(int),
    KEYS.report(THREE): again(NodeReport),
    KEYS.filled_anew: again(TurnRecord),
    KEYS.format_level: again(FormatLevelRecord),
    KEYS.shard(shard_id(PoolId(0), 17)): lambda data: encode_configuration(
        decode_configuration(data)
    ),
    KEYS.bucket("photos"): again(BucketRecord),
    KEYS.topic("orders"): again(TopicRecord),
    KEYS.last_bucket_id: again(int),
    KEYS.usage(BucketId(7)): again(BucketUsageRecord),
    KEYS.access_key("octad"): again(AccessKeyRecord),
}
EXAMPLES = dict(EXAMPLE.findall(DOCUMENT.read_text()))


def test_there_is_an_example_for_every_kind_of_key() -> None:
    assert list(EXAMPLES) == list(WRITTEN_AGAIN)


@pytest.mark.parametrize("key", WRITTEN_AGAIN)
def test_an_example_is_read_and_written_again_as_it_stands(key: str) -> None:
    data = EXAMPLES[key].encode()
    assert WRITTEN_AGAIN[key](data) == data


def test_a_field_the_reader_does_not_know_does_no_harm() -> None:
    for key, write_again in WRITTEN_AGAIN.items():
        if (data := EXAMPLES[key].encode()).endswith(b"}"):
            assert write_again(data[:-1] + b',"newer":[1]}') == data


def test_the_key_of_a_shard_leads_back_to_it() -> None:
    shard = shard_id(PoolId(2), 262_143)
    assert KEYS.shard_of_key(KEYS.shard(shard)) == shard


def test_the_key_of_a_usage_leads_back_to_its_bucket() -> None:
    assert KEYS.bucket_of_usage(KEYS.usage(BucketId(7))) == 7


def test_the_encrypted_secret_is_the_one_described() -> None:
    token = JoinToken("1a2b3c4d", bytes(range(32)))
    nonce = bytes(range(12))
    record = access_key_record(token, "octad", "octad-secret", "root", nonce, admin=True)
    assert msgspec.json.encode(record).decode() == EXAMPLES[KEYS.access_key("octad")]
