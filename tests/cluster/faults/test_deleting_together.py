"""DeleteObjects of many keys: several of a shard as one entry, where every node knows such entries.

One run is while a node that leads a third of the shards is killed.
"""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path

import pytest
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.older_nodes import OlderNodes
from tests.harness.s3_clients import retrying_client, s3_client

from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal_errors import CorruptRecord
from octad.storage_node.journal.record_format import RECORDS_OFFSET, RecordKind
from octad.storage_node.journal.segment_file import open_segment, segments_in
from octad.storage_node.operations.registry import DELETIONS_LEVEL

pytestmark = pytest.mark.cluster

BUCKET = "deleted-together"
KEYS_AT_ONCE = 300
KILLED_AFTER_S = 0.03  # When some of the entries are ordered, and hardly any is acknowledged.


def test_what_is_told_to_be_deleted_is_and_nothing_else_while_a_node_is_killed(
    start_cluster: StartCluster,
) -> None:
    """Keys that are put again as soon as their deletion is told stay, whatever comes late."""
    cluster = start_cluster()
    client = retrying_client(cluster, 1)
    client.create_bucket(Bucket=BUCKET)
    with ThreadPoolExecutor(8) as pool:
        rounds = [[f"{turn}-{number}" for number in range(KEYS_AT_ONCE)] for turn in range(2)]
        left_alone = [f"left-{number}" for number in range(20)]

        def put(key: str) -> None:
            client.put_object(Bucket=BUCKET, Key=key, Body=key.encode())

        list(pool.map(put, chain(left_alone, *rounds)))
        stands = set(left_alone)
        kill = threading.Timer(KILLED_AFTER_S, os.kill, (cluster.nodes[0].pid, signal.SIGKILL))
        kill.start()
        for keys in rounds:
            answer = client.delete_objects(
                Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in keys]}
            )
            assert "Errors" not in answer
            assert {each["Key"] for each in answer["Deleted"]} == set(keys)
            again = keys[::10]
            list(pool.map(put, again))
            stands.update(again)
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        assert {each["Key"] for page in pages for each in page.get("Contents", [])} == stands
    client.close()
    cluster.stop()
    assert all(entries_of_several(cluster)[1:]), "each node that was not killed has some"


def test_each_is_deleted_by_itself_where_no_node_knows_entries_of_several_deletions(
    start_cluster: StartCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    OlderNodes(tmp_path, monkeypatch, DELETIONS_LEVEL - 1).are("n1", "n2", "n3")
    cluster = start_cluster()
    keys = [f"key-{number}" for number in range(KEYS_AT_ONCE)]
    with s3_client(cluster) as client, ThreadPoolExecutor(8) as pool:
        client.create_bucket(Bucket=BUCKET)
        list(pool.map(lambda key: client.put_object(Bucket=BUCKET, Key=key, Body=b"x"), keys))
        answer = client.delete_objects(
            Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in keys]}
        )
        assert "Errors" not in answer
        assert {each["Key"] for each in answer["Deleted"]} == set(keys)
        assert client.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0
    cluster.stop()
    assert entries_of_several(cluster) == [0, 0, 0]


def entries_of_several(cluster: DevCluster) -> list[int]:
    """How many each node's journal has; the cluster is stopped."""
    return [_entries_of_several(cluster.data / f"n{node.id}/journal") for node in cluster.nodes]


def _entries_of_several(journal: Path) -> int:
    disk, count = Disk(), 0
    for segment in segments_in(disk, journal):
        with open_segment(disk, journal, segment, None) as file, suppress(CorruptRecord):
            for _, record in file.records(RECORDS_OFFSET, file.size()):  # Up to the empty rest.
                count += record.kind is RecordKind.DELETE_OBJECTS
    return count
