"""The cluster's buckets: records of the store, changed by compare-and-swap, cached by watch.

A name that the cache does not have is looked up in the store itself before anyone is told that it
does not exist, so that a bucket is usable everywhere as soon as it is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from octad.client.cluster.unknown_fields import with_unknown_fields
from octad.coordinator.schema.bucket_settings import CLOSED, BucketSettings
from octad.coordinator.schema.records import (
    BucketRecord,
    BucketUsageRecord,
    StoreKeys,
    TopicRecord,
)
from octad.coordinator.store.interface import (
    Compare,
    ConfigStore,
    Delete,
    KeyValue,
    ModRevisionIs,
    Put,
    Revision,
    StoreOperation,
    StoreUnavailable,
)
from octad.coordinator.store.mirror import Mirror
from octad.sharding.ids import BucketId, PoolId
from octad.storage_node.shards.object_store import (
    Bucket,
    BucketAlreadyExists,
    NoSuchBucket,
    Topic,
    Unavailable,
)

ACTIVE, DELETING = "active", "deleting"
Record = TypeVar("Record", bound=BucketRecord)
_decode = msgspec.json.Decoder(BucketRecord).decode
_decode_topic = msgspec.json.Decoder(TopicRecord).decode
_decode_usage = msgspec.json.Decoder(BucketUsageRecord).decode
_encode = msgspec.json.Encoder().encode


class BucketDirectory:
    """Feed it the mirror's events under `buckets/` and `bucket-usage/`."""

    def __init__(self, store: ConfigStore, keys: StoreKeys, mirror: Mirror) -> None:
        self._store = store
        self._keys = keys
        self._mirror = mirror
        self._by_name: dict[str, Bucket] = {}
        self.by_id: dict[BucketId, Bucket] = {}  # With topics (`topic_directory.py`).
        self.usages: dict[BucketId, BucketUsageRecord] = {}  # As last added up.

    def on_change(self, key: str, entry: KeyValue | None) -> None:
        """The mirror saw `key` under `buckets/` change."""
        name = key.removeprefix(self._keys.buckets)
        previous = self._by_name.pop(name, None)
        if previous is not None:
            del self.by_id[previous.id]
        if entry is not None:
            bucket = _bucket(_decode(entry.value))
            self._by_name[name] = self.by_id[bucket.id] = bucket

    def on_usage(self, key: str, entry: KeyValue | None) -> None:
        """The mirror saw `key` under `bucket-usage/` change."""
        bucket = self._keys.bucket_of_usage(key)
        self.usages.pop(bucket, None)
        if entry is not None:
            self.usages[bucket] = _decode_usage(entry.value)

    def used_bytes(self, bucket: BucketId) -> int:
        """Its size when it was last added up."""
        usage = self.usages.get(bucket)
        return 0 if usage is None else usage.bytes

    def limited(self) -> set[BucketId]:
        """The buckets that have a quota."""
        return {each.id for each in self.by_id.values() if each.quota_bytes is not None}

    def cached(self, name: str) -> Bucket | None:
        """The bucket if the cache has it and it takes keys."""
        bucket = self._by_name.get(name)
        return bucket if bucket is not None and bucket.state == ACTIVE else None

    async def get(self, name: str) -> Bucket:
        """Raises NoSuchBucket only after asking the store itself."""
        bucket = self.cached(name)
        if bucket is None:
            await self.refresh()
            bucket = self.cached(name)
        if bucket is None:
            raise NoSuchBucket(name)
        return bucket

    async def require_active(self, bucket: BucketId) -> None:
        """Raises NoSuchBucket unless `bucket` takes new keys."""
        if not self.is_active(bucket):
            await self.refresh()
            if not self.is_active(bucket):
                raise NoSuchBucket(str(bucket))

    def is_active(self, bucket: BucketId) -> bool:
        """Whether the cache has `bucket` as one that takes keys."""
        known = self.by_id.get(bucket)
        return known is not None and known.state == ACTIVE

    def is_strict(self, bucket: BucketId) -> bool:
        """Whether writes to `bucket` are refused while a copy is missing."""
        known = self.by_id.get(bucket)
        return known is not None and known.strict

    def pool_of(self, bucket: BucketId) -> PoolId | None:
        """The pool of a bucket that the cache has, in whatever state."""
        known = self.by_id.get(bucket)
        return known.pool if known is not None else None

    def name_of(self, bucket: BucketId) -> str:
        """Its name, or its number if the cache does not have it."""
        known = self.by_id.get(bucket)
        return f"number {bucket}" if known is None else known.name

    async def wait_until_closed(self, bucket: BucketId) -> None:
        """Returns once this node knows that `bucket` takes no new keys."""
        await self.refresh()
        if self.is_active(bucket):
            raise Unavailable(f"bucket {bucket} is not being deleted any more")

    def of_owner(self, owner: str) -> list[Bucket]:
        """The owner's buckets, sorted by name."""
        active = (b for b in self._by_name.values() if b.state == ACTIVE and b.owner == owner)
        return sorted(active, key=lambda bucket: bucket.name)

    async def refreshed_of_owner(self, owner: str) -> list[Bucket]:
        """`of_owner`, not older than this call."""
        await self.refresh()
        return self.of_owner(owner)

    def deleting(self, name: str) -> Bucket | None:
        """A bucket of that name whose deletion was begun and has not ended."""
        bucket = self._by_name.get(name)
        return bucket if bucket is not None and bucket.state == DELETING else None

    async def create(
        self,
        name: str,
        owner: str,
        pool: PoolId,
        location: str,
        *,
        strict: bool,
        settings: BucketSettings = CLOSED,
    ) -> Bucket:
        """Raises BucketAlreadyExists."""

        def record_of(number: BucketId) -> BucketRecord:
            made_ms = int(time.time() * 1000)
            of = name, number, pool, owner, made_ms, ACTIVE, strict, location
            return BucketRecord(*of, **msgspec.structs.asdict(settings))

        return _bucket(await self.add(self._keys.bucket(name), record_of))

    async def add(self, key: str, record_of: Callable[[BucketId], Record]) -> Record:
        """Keep a record under `key`, with the next id. Raises BucketAlreadyExists."""
        while True:
            counter = await self._call_get(self._keys.last_bucket_id)
            number = BucketId((int(counter.value) if counter else 0) + 1)
            record = record_of(number)
            created = await self._transact(
                [
                    ModRevisionIs(key, Revision(0)),
                    ModRevisionIs(
                        self._keys.last_bucket_id, counter.mod_revision if counter else Revision(0)
                    ),
                ],
                [
                    Put(self._keys.last_bucket_id, str(number).encode()),
                    Put(key, _encode(record)),
                ],
            )
            if created:
                return record
            existing = await self._call_get(key)
            if existing is not None:
                raise BucketAlreadyExists(_decode(existing.value).owner)

    async def set_state(self, bucket: Bucket, state: str) -> Revision:
        """Returns since when it has that state. Raises NoSuchBucket if that very bucket is gone."""
        while True:
            entry = await self._entry_of(bucket)
            record = _decode(entry.value)
            if record.state == state:
                return entry.mod_revision
            record = msgspec.structs.replace(record, state=state)
            value = with_unknown_fields(entry.value, record)
            await self._transact(
                [ModRevisionIs(entry.key, entry.mod_revision)], [Put(entry.key, value)]
            )

    async def change(
        self, bucket: Bucket, change: Callable[[BucketSettings], Mapping[str, object]]
    ) -> Bucket:
        """See `ObjectStore.change_bucket`. This node shows the change when it returns."""
        decode = _decode_topic if isinstance(bucket, Topic) else _decode
        while True:
            entry = await self._entry_of(bucket)
            record = decode(entry.value)
            record = msgspec.structs.replace(record, **change(record))
            value = with_unknown_fields(entry.value, record)
            if await self._transact(
                [ModRevisionIs(entry.key, entry.mod_revision)], [Put(entry.key, value)]
            ):
                await self.refresh()
                return topic_of(record) if isinstance(record, TopicRecord) else _bucket(record)

    async def remove(self, bucket: Bucket, since: Revision) -> bool:
        """End a deletion; False: it was not being deleted all the time since `since`.

        Raises NoSuchBucket when someone else was first.
        """
        key = (await self._entry_of(bucket)).key
        return await self._transact([ModRevisionIs(key, since)], [Delete(key)])

    async def _entry_of(self, bucket: Bucket) -> KeyValue:
        keys, name = self._keys, bucket.name
        key = keys.topic(name) if isinstance(bucket, Topic) else keys.bucket(name)
        entry = await self._call_get(key)
        if entry is None or _decode(entry.value).id != bucket.id:
            raise NoSuchBucket(bucket.name)
        return entry

    async def refresh(self) -> None:
        """Returns when the mirror is not older than this call; raises Unavailable."""
        try:
            await self._mirror.refresh()
        except StoreUnavailable as error:
            raise Unavailable(f"the configuration store: {error}") from error

    async def _call_get(self, key: str) -> KeyValue | None:
        try:
            return await self._store.get(key)
        except StoreUnavailable as error:
            raise Unavailable(f"the configuration store: {error}") from error

    async def _transact(self, compares: list[Compare], operations: list[StoreOperation]) -> bool:
        try:
            return (await self._store.transact(compares, operations)).succeeded
        except StoreUnavailable as error:
            raise Unavailable(f"the configuration store: {error}") from error


def topic_of(record: TopicRecord) -> Topic:
    """What the record says."""
    fields = msgspec.structs.asdict(record)
    del fields["kind"]
    return Topic(**fields)


def _bucket(record: BucketRecord) -> Bucket:
    return Bucket(**msgspec.structs.asdict(record))
