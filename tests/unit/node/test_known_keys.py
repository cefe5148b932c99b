"""A node takes the access keys that the store has, and none of which it is not certain."""

from __future__ import annotations

import msgspec
import pytest

from octad.client.cluster.join_token import JoinToken
from octad.client.s3.owners import canonical_id
from octad.coordinator.schema.access_keys import access_key_record
from octad.coordinator.schema.records import AccessKeyRecord
from octad.coordinator.store.interface import KeyValue, Revision
from octad.storage_node.node.known_keys import KnownKeys

TOKEN = JoinToken("1a2b3c4d", bytes(range(32)))
OTHER = JoinToken("1a2b3c4d", bytes(32))


def record(token: JoinToken = TOKEN, access_key: str = "KEY") -> AccessKeyRecord:
    return access_key_record(token, access_key, "a-secret-key", "alice", bytes(12))


def entry(value: bytes) -> KeyValue:
    return KeyValue("keys/KEY", value, Revision(7), Revision(7))


def known() -> KnownKeys:
    keys = KnownKeys(TOKEN)
    keys.on_change("KEY", entry(msgspec.json.encode(record())))
    return keys


def test_a_key_opens_what_is_its_owners_until_it_is_disabled_or_gone() -> None:
    keys = known()
    assert keys.secrets == {"KEY": ("a-secret-key", "alice")}
    disabled = msgspec.structs.replace(record(), disabled=True)
    keys.on_change("KEY", entry(msgspec.json.encode(disabled)))
    assert keys.secrets == {}
    keys = known()
    keys.on_change("KEY", None)
    assert keys.secrets == {}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        b'{"access_key":"KEY","secret_encrypted":"AAAA","owner":"alice"}',
        b'{"access_key":"KEY","secret_encrypted":7,"owner":"alice"}',
        msgspec.json.encode(record(OTHER)),
        msgspec.json.encode(record(access_key="ANOTHER")),
        msgspec.json.encode(msgspec.structs.replace(record(), access_key="ANOTHER")),
        msgspec.json.encode(
            msgspec.structs.replace(record(access_key="ANOTHER"), access_key="KEY")
        ),
    ],
)
def test_a_record_that_does_not_open_ends_what_the_key_opened(value: bytes) -> None:
    keys = known()
    keys.on_change("KEY", entry(value))
    assert keys.secrets == {}


def test_an_owner_is_found_by_his_id_as_long_as_a_key_of_his_is_valid() -> None:
    keys, id = known(), canonical_id(TOKEN.cluster, "alice")
    assert keys.owner_of_id(id) == "alice"
    assert keys.owner_of_id(canonical_id(TOKEN.cluster, "bob")) is None
    assert keys.owner_of_id("alice") is None
    keys.on_change("KEY", None)
    assert keys.owner_of_id(id) is None
