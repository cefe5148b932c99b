"""A cluster begins: its pool and its first access key are written into the configuration store.

Everything here may be done again, by the same process after an unknown outcome or by another one.
"""

from __future__ import annotations

import secrets

import msgspec

from octad.client.cluster.join_token import SECRET_BYTES, JoinToken
from octad.client.cluster.unknown_fields import with_unknown_fields
from octad.coordinator.schema.access_keys import access_key_record, secret_of
from octad.coordinator.schema.cluster_view import decode_record
from octad.coordinator.schema.records import CLUSTERS, AccessKeyRecord, PoolRecord, StoreKeys
from octad.coordinator.schema.sealing import NONCE_BYTES, DoesNotOpen
from octad.coordinator.store.interface import (
    ConfigStore,
    KeyValue,
    ModRevisionIs,
    Put,
    Revision,
    StoreUnavailable,
)
from octad.sharding.ids import PoolId

FIRST_POOL = PoolId(0)
ROOT_OWNER = "root"
_ATTEMPTS = 5


class PoolDiffers(Exception):
    """The cluster already exists with another replica count than requested."""

    def __init__(self, pool: PoolRecord) -> None:
        super().__init__(f"the cluster keeps {pool.replicas} copies")
        self.pool = pool


class OtherCluster(Exception):
    """The store was to be empty, and holds clusters."""

    def __init__(self, clusters: list[str]) -> None:
        super().__init__(f"the store holds cluster {', '.join(clusters)}")
        self.clusters = clusters


def new_join_token() -> JoinToken:
    """A new cluster's id and secret."""
    return JoinToken(secrets.token_hex(4), secrets.token_bytes(SECRET_BYTES))


def new_life() -> bytes:
    """Distinguishes the revisions of a store from those of the one that it replaces."""
    return msgspec.json.encode(secrets.token_hex(4))


def new_access_key() -> tuple[str, str]:
    """A random access key and its secret, in the form that S3 clients expect."""
    return f"OCTAD{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30)


async def clusters_in(store: ConfigStore) -> list[str]:
    """The ids of the clusters that `store` holds."""
    return _cluster_list(await store.get(CLUSTERS))


async def pool_of_cluster(store: ConfigStore, token: JoinToken) -> PoolRecord | None:
    """The first pool of the token's cluster; None where `store` has no such cluster."""
    entry = await store.get(StoreKeys(token.cluster).pool(FIRST_POOL))
    return decode_record(entry, PoolRecord) if entry else None


async def create_cluster(
    store: ConfigStore,
    token: JoinToken,
    replicas: int,
    depth: int,
    access_key: str,
    secret_key: str,
    *,
    only_in_empty_store: bool = False,
) -> None:
    """Returns once the cluster of `token` exists with this pool and this access key.

    Idempotent, except that a new secret of the access key replaces the old one.
    Raises PoolDiffers, OtherCluster, BadRecord, StoreUnavailable (unknown outcome: retry).
    """
    keys = StoreKeys(token.cluster)
    pool = PoolRecord(FIRST_POOL, replicas, depth)
    for _ in range(_ATTEMPTS):
        registry = await store.get(CLUSTERS)
        found = await pool_of_cluster(store, token)
        if found is not None:
            if found.replicas != replicas:  # The rest changes with use: splits make it deeper.
                raise PoolDiffers(found)
            break
        clusters = _cluster_list(registry)
        if only_in_empty_store and clusters:
            raise OtherCluster(clusters)
        listed = sorted({*clusters, token.cluster})
        await store.transact(
            [_unchanged(CLUSTERS, registry), ModRevisionIs(keys.pool(pool.id), Revision(0))],
            [
                Put(CLUSTERS, msgspec.json.encode(listed)),
                Put(keys.pool(pool.id), msgspec.json.encode(pool)),
                Put(keys.life, new_life()),
            ],
        )
    else:
        raise StoreUnavailable("other clusters are being made at the same time")
    await ensure_access_key(store, token, access_key, secret_key)


async def ensure_access_key(
    store: ConfigStore, token: JoinToken, access_key: str, secret_key: str
) -> None:
    """Returns once the root owner has `access_key` with this secret, an admin's.

    A disabled one stays so.
    """
    key = StoreKeys(token.cluster).access_key(access_key)
    for _ in range(_ATTEMPTS):
        present = await store.get(key)
        if present is not None and _is_settled(token, present, secret_key):
            return
        nonce = secrets.token_bytes(NONCE_BYTES)
        record = access_key_record(token, access_key, secret_key, ROOT_OWNER, nonce, admin=True)
        value = with_unknown_fields(present.value if present else b"{}", record)
        outcome = await store.transact([_unchanged(key, present)], [Put(key, value)])
        if outcome.succeeded:
            return
    raise StoreUnavailable(f"access key {access_key} keeps being changed by someone else")


async def mark_first_admin(store: ConfigStore, cluster: str, leadership: ModRevisionIs) -> None:
    """The root owner's keys of a cluster that no key is an admin's of become admins'.

    An octad that knew of no admins has made it. Raises StoreUnavailable, BadRecord.
    """
    listing = await store.range(StoreKeys(cluster).access_keys)
    records = [(entry, decode_record(entry, AccessKeyRecord)) for entry in listing.entries]
    if any(record.admin for _, record in records):
        return
    for entry, record in records:
        if record.owner == ROOT_OWNER:
            marked = msgspec.structs.replace(record, admin=True)
            value = with_unknown_fields(entry.value, marked)
            await store.transact(
                [leadership, _unchanged(entry.key, entry)], [Put(entry.key, value)]
            )


def _is_settled(token: JoinToken, entry: KeyValue, secret_key: str) -> bool:
    record = decode_record(entry, AccessKeyRecord)
    try:
        same = record.admin and secret_of(token, record) == secret_key
        return record.disabled or same
    except DoesNotOpen:
        return False


def _unchanged(key: str, entry: KeyValue | None) -> ModRevisionIs:
    return ModRevisionIs(key, entry.mod_revision if entry else Revision(0))


def _cluster_list(registry: KeyValue | None) -> list[str]:
    return decode_record(registry, list[str]) if registry else []
