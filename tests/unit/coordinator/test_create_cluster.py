"""A cluster begins once, whoever tries how often, and never by accident in another one's store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest
from tests.unit.coordinator.running_coordinator import KEYS, TOKEN

from octad.client.cluster.join_token import JoinToken, decode_join_token, encode_join_token
from octad.coordinator.recovery.create_cluster import (
    OtherCluster,
    PoolDiffers,
    clusters_in,
    create_cluster,
    ensure_access_key,
    new_access_key,
    new_join_token,
    pool_of_cluster,
)
from octad.coordinator.schema.access_keys import check_credentials, secret_of
from octad.coordinator.schema.records import CLUSTERS, AccessKeyRecord, PoolRecord
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import (
    Compare,
    ConfigStore,
    Outcome,
    Put,
    StoreOperation,
    StoreUnavailable,
)
from octad.sharding.ids import PoolId

OTHER = JoinToken("deadbeef", bytes(32))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    embedded = await EmbeddedStore.open(tmp_path / "store.sqlite")
    yield embedded
    await embedded.close()


async def create(
    store: ConfigStore, token: JoinToken = TOKEN, *, only_in_empty_store: bool = False
) -> None:
    await create_cluster(
        store,
        token,
        3,
        4,
        "octad",
        "octad-secret",
        only_in_empty_store=only_in_empty_store,
    )


async def stored_key(store: ConfigStore) -> AccessKeyRecord:
    entry = await store.get(KEYS.access_key("octad"))
    assert entry is not None
    return msgspec.json.decode(entry.value, type=AccessKeyRecord)


async def test_a_new_cluster_has_a_pool_and_a_root_key_and_is_listed(store: EmbeddedStore) -> None:
    assert await clusters_in(store) == []
    assert await pool_of_cluster(store, TOKEN) is None
    await create(store)
    assert await clusters_in(store) == [TOKEN.cluster]
    assert await pool_of_cluster(store, TOKEN) == PoolRecord(PoolId(0), 3, 4)
    record = await stored_key(store)
    assert (record.owner, record.disabled) == ("root", False)
    assert secret_of(TOKEN, record) == "octad-secret"


async def test_doing_it_again_changes_nothing(store: EmbeddedStore) -> None:
    await create(store)
    before = await store.range("")
    await create(store)
    await create(store, only_in_empty_store=True)
    assert await store.range("") == before


async def test_two_at_once_with_one_token_make_one_cluster(store: EmbeddedStore) -> None:
    await asyncio.gather(create(store), create(store))
    assert await clusters_in(store) == [TOKEN.cluster]


async def test_two_at_once_in_an_empty_store_make_one_cluster(store: EmbeddedStore) -> None:
    results = await asyncio.gather(
        create(store, only_in_empty_store=True),
        create(store, OTHER, only_in_empty_store=True),
        return_exceptions=True,
    )
    assert [type(result) for result in results if result is not None] == [OtherCluster]
    assert len(await clusters_in(store)) == 1


async def test_a_second_cluster_in_one_store_must_be_meant(store: EmbeddedStore) -> None:
    await create(store)
    with pytest.raises(OtherCluster, match=TOKEN.cluster):
        await create(store, OTHER, only_in_empty_store=True)
    await create(store, OTHER)
    assert await clusters_in(store) == sorted([TOKEN.cluster, OTHER.cluster])


async def test_another_replica_count_is_refused_and_changes_nothing(store: EmbeddedStore) -> None:
    await create(store)
    before = await store.range("")
    with pytest.raises(PoolDiffers) as differs:
        await create_cluster(store, TOKEN, 2, 4, "octad", "other-secret")
    assert differs.value.pool.replicas == 3
    assert await store.range("") == before


async def test_what_changes_with_use_is_not_compared(store: EmbeddedStore) -> None:
    await create(store)
    split = PoolRecord(PoolId(0), 3, 5, min_copies=1)
    await store.transact([], [Put(KEYS.pool(PoolId(0)), msgspec.json.encode(split))])
    await create(store)
    assert await pool_of_cluster(store, TOKEN) == split


async def test_a_new_secret_replaces_the_old_one(store: EmbeddedStore) -> None:
    await create(store)
    await ensure_access_key(store, TOKEN, "octad", "new-secret")
    assert secret_of(TOKEN, await stored_key(store)) == "new-secret"


async def test_a_disabled_key_stays_disabled(store: EmbeddedStore) -> None:
    await create(store)
    disabled = msgspec.structs.replace(await stored_key(store), disabled=True)
    await store.transact([], [Put(KEYS.access_key("octad"), msgspec.json.encode(disabled))])
    await ensure_access_key(store, TOKEN, "octad", "new-secret")
    assert await stored_key(store) == disabled


async def test_what_a_newer_octad_has_put_into_a_key_stays_there(store: EmbeddedStore) -> None:
    await create(store)
    key = KEYS.access_key("octad")
    before = await store.get(key)
    assert before is not None
    newer = before.value[:-1] + b',"policy":{"allow":["*"]}}'
    await store.transact([], [Put(key, newer)])
    await ensure_access_key(store, TOKEN, "octad", "new-secret")
    after = await store.get(key)
    assert after is not None
    assert after.value.endswith(b',"policy":{"allow":["*"]}}')
    assert secret_of(TOKEN, await stored_key(store)) == "new-secret"


async def test_after_an_unknown_outcome_the_same_call_finishes(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    transact, answers_to_lose = store.transact, 2

    async def done_but_not_answered(
        compares: Sequence[Compare], operations: Sequence[StoreOperation]
    ) -> Outcome:
        nonlocal answers_to_lose
        outcome = await transact(compares, operations)
        answers_to_lose -= 1
        if answers_to_lose >= 0:
            raise StoreUnavailable("the answer was lost")
        return outcome

    monkeypatch.setattr(store, "transact", done_but_not_answered)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await create(store, only_in_empty_store=True)
    await create(store, only_in_empty_store=True)
    assert await clusters_in(store) == [TOKEN.cluster]
    assert secret_of(TOKEN, await stored_key(store)) == "octad-secret"


async def test_the_registry_is_byte_exact(store: EmbeddedStore) -> None:
    await create(store)
    entries = {e.key: e.value for e in (await store.range("")).entries}
    assert entries[CLUSTERS] == b'["1a2b3c4d"]'
    assert entries["octad/1a2b3c4d/pools/0"] == b'{"id":0,"replicas":3,"depth":4}'
    own = {"octad/1a2b3c4d/pools/0", "octad/1a2b3c4d/keys/octad", "octad/1a2b3c4d/life"}
    assert set(entries) == {CLUSTERS, *own}


def test_new_tokens_and_keys_are_usable_and_never_the_same() -> None:
    tokens, keys = {new_join_token().secret for _ in range(9)}, [new_access_key() for _ in range(9)]
    assert len(tokens) == len(set(keys)) == 9
    for access_key, secret in keys:
        check_credentials(access_key, secret)
    token = new_join_token()
    assert decode_join_token(encode_join_token(token)) == token
