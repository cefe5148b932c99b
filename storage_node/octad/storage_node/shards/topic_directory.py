"""The cluster's topics: records of the store beside those of buckets, in a name space of their own.

A topic's id is a bucket's, so that what is asked by id needs not know which of the two it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import uuid4

import msgspec

from octad.coordinator.schema.bucket_settings import BucketSettings
from octad.coordinator.schema.records import StoreKeys, TopicRecord
from octad.coordinator.store.interface import KeyValue
from octad.sharding.ids import BucketId, PoolId
from octad.storage_node.shards.bucket_directory import ACTIVE, BucketDirectory, topic_of
from octad.storage_node.shards.object_store import NoSuchTopic, Topic

_decode = msgspec.json.Decoder(TopicRecord).decode


class TopicDirectory:
    """Feed it the mirror's events under `topics/`."""

    def __init__(self, keys: StoreKeys, buckets: BucketDirectory) -> None:
        self._keys = keys
        self._buckets = buckets
        self._topics: dict[str, Topic] = {}

    def on_change(self, key: str, entry: KeyValue | None) -> None:
        """The mirror saw `key` under `topics/` change."""
        name = key.removeprefix(self._keys.topics)
        previous = self._topics.pop(name, None)
        if previous is not None:
            del self._buckets.by_id[previous.id]
        if entry is not None:
            topic = topic_of(_decode(entry.value))
            self._topics[name] = self._buckets.by_id[topic.id] = topic

    async def get(self, name: str, *, deleting: bool = False) -> Topic:
        """Raises NoSuchTopic only after asking the store itself.

        With `deleting` it may also be one whose deletion was begun and has not ended.
        """
        for ask in (True, False):
            topic = self._topics.get(name)
            if topic is not None and (deleting or topic.state == ACTIVE):
                return topic
            if ask:
                await self._buckets.refresh()
        raise NoSuchTopic(f"there is no topic {name}")

    async def of_owner(self, owner: str) -> list[Topic]:
        """The owner's topics by name, not older than this call."""
        await self._buckets.refresh()
        active = (t for t in self._topics.values() if t.state == ACTIVE and t.owner == owner)
        return sorted(active, key=lambda topic: topic.name)

    async def create(
        self,
        name: str,
        owner: str,
        pool: PoolId,
        location: str,
        partitions: int,
        config: dict[str, str],
    ) -> Topic:
        """Raises BucketAlreadyExists."""

        def record_of(number: BucketId) -> TopicRecord:
            made_ms = int(time.time() * 1000)
            of = name, number, pool, owner, made_ms, ACTIVE, False, location
            return TopicRecord(*of, uuid=uuid4().hex, partitions=partitions, config=config)

        return topic_of(await self._buckets.add(self._keys.topic(name), record_of))

    async def change(
        self, topic: Topic, change: Callable[[dict[str, str]], dict[str, str]]
    ) -> Topic:
        """With another configuration. Raises NoSuchBucket, and what `change` raises."""

        def changed(record: BucketSettings) -> dict[str, dict[str, str]]:
            assert isinstance(record, TopicRecord)
            return {"config": change(record.config)}

        found = await self._buckets.change(topic, changed)
        assert isinstance(found, Topic)
        return found
