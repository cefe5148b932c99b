"""Readers at the end of a log are answered from memory, of which there is so much and no more."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.log.partition_site import batch, site
from tests.unit.replication_host.new_primary import SHARD

from octad.sharding.ids import BucketId, Epoch, Seq
from octad.storage_node.index.partition_rows import BatchRow, PartitionId, batch_key
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.log.log_messages import FetchLog
from octad.storage_node.log.tail_cache import TailCache
from octad.storage_node.operations.partitions import AppendBatch
from octad.storage_node.replication.shard_log import NO_REQUEST, Entry

PARTITION = PartitionId(BucketId(7), 2)


def append(base: int, data: bytes | None) -> Entry:
    operation = AppendBatch(*PARTITION, base, BatchRow(base, 0, 0, 1))
    of = Epoch(1), Seq(base + 1), RecordKind.LOG_APPEND, NO_REQUEST
    return Entry(*of, b"", None if data is None else memoryview(data), operation, ())


def test_the_oldest_go_first_and_there_are_never_more_bytes_than_may_be() -> None:
    cache = TailCache(10)
    for base in range(5):
        cache.note(append(base, b"%d" % base * 4))
        assert cache.size <= 10
    found = [cache.get(batch_key(PARTITION, base)) for base in range(6)]
    assert found == [None, None, None, b"3333", b"4444", None]
    cache.note(append(4, b"4444"))
    assert cache.size == 8, "the same comes again after a restart"
    cache.note(append(5, None))
    cache.note(append(6, b"x" * 11))
    assert cache.size == 0


async def test_what_was_committed_last_is_read_without_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path) as here:
        await here.bases(here.append(batch("a"), batch("b")), here.append(batch("c"), partition=1))
        await here.bases(here.append(batch("d")))

        def no_disk(*_: object) -> None:
            raise AssertionError("the disk was asked")

        journal = here.primary.host.journal
        with monkeypatch.context() as patched:
            patched.setattr(type(journal), "read_if_cached", no_disk)
            patched.setattr(type(journal), "read", no_disk)
            _, bases = await here.fetch(0)
            assert bases == [0, 1, 2]
        assert (here.cache.hits, here.cache.misses) == (3, 0)
        asked = FetchLog(SHARD, *here.partition, 0, 1 << 20)
        cached = await here.reader.fetch(asked)
        here.cache._batches.clear()
        assert await here.reader.fetch(asked) == cached
