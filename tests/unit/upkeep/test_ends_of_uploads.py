"""The end of an upload is an entry of its own row, and changes those of its parts as well."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.unit.operations.test_several_records_in_a_shard import two_nodes
from tests.unit.replication_host.new_primary import SHARD

from octad.sharding.ids import BucketId
from octad.storage_node.index.index_format import object_key, part_key
from octad.storage_node.index.rows import ObjectRow, PartRow, UploadRow
from octad.storage_node.operations.index_changes import (
    AbortUpload,
    Operation,
    PutPart,
    complete_upload,
    create_upload,
)

BUCKET, KEY, UPLOAD, OTHERS = BucketId(1), b"key", bytes(15) + b"u", bytes(15) + b"v"
ENDS: list[Operation] = [
    AbortUpload(BUCKET, KEY, UPLOAD, (1,)),
    complete_upload(BUCKET, KEY, UPLOAD, ObjectRow(0, "", 0), (1,)),
]


@pytest.mark.parametrize("end", ENDS)
async def test_a_part_is_not_copied_while_the_end_of_its_upload_is_under_way(
    end: Operation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the copy lies behind the end, which is dropped before it: a rebuild finds the part."""
    part = part_key(BUCKET, KEY, UPLOAD, 1)
    async with two_nodes(tmp_path, monkeypatch) as pair:
        host = pair.primary.host
        for upload in (UPLOAD, OTHERS):
            for operation in (
                create_upload(BUCKET, KEY, upload, UploadRow(0, "")),
                PutPart(BUCKET, KEY, upload, 1, PartRow(0, "", 0)),
            ):
                await asyncio.gather(pair.propose(SHARD, operation, b""), pair.settle(SHARD))
        assert not host.is_dirty(SHARD, part)
        done = pair.propose(SHARD, end, b"")
        assert host.is_dirty(SHARD, part)
        assert not host.is_dirty(SHARD, part_key(BUCKET, KEY, OTHERS, 1))
        assert not host.is_dirty(SHARD, object_key(BUCKET, b"another"))
        await asyncio.gather(done, pair.settle(SHARD))
        assert not host.is_dirty(SHARD, part)
        assert host.index.get(part) is None
