"""One node runs an octad that knows less than the others: what it does not know is not done yet."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.older_nodes import OlderNodes
from tests.harness.s3_clients import s3_client
from tests.harness.work_under_faults import wait_until_it_listens

pytestmark = pytest.mark.cluster

BUCKET, BODY = "mixed", b"body"
UPGRADED_S_MAX = 60.0


def answer(call: Callable[..., Any], **arguments: Any) -> tuple[int, str]:
    """Status and message."""
    try:
        done = call(Bucket=BUCKET, **arguments)
    except ClientError as error:
        metadata = error.response["ResponseMetadata"]
        return metadata["HTTPStatusCode"], error.response["Error"]["Message"]
    return done["ResponseMetadata"]["HTTPStatusCode"], ""


def newer_writes(cluster: DevCluster, node: int, key: str) -> list[tuple[int, str]]:
    """Each is of something that the older octad has never heard of."""
    tags: Any = {"TagSet": [{"Key": "a", "Value": "b"}]}
    with s3_client(cluster, node) as client:
        return [
            answer(client.put_object, Key=f"{key}-new", Body=BODY, IfNoneMatch="*"),
            answer(client.put_object, Key=key, Body=b"more", WriteOffsetBytes=len(BODY)),
            answer(client.put_object_tagging, Key=key, Tagging=tags),
            answer(client.delete_object, Key=key, IfMatch="*"),
        ]


def test_what_one_node_does_not_know_is_refused_in_words_until_it_is_upgraded(
    start_cluster: StartCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = OlderNodes(tmp_path, monkeypatch, level=2)
    older.are("n1", "n2", "n3")
    cluster = start_cluster()
    cluster.stop()
    older.are("n3")
    cluster.start()
    keys = [f"key-{node}-{number}" for node in range(3) for number in range(4)]
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=BUCKET)
        for key in keys:
            client.put_object(Bucket=BUCKET, Key=key, Body=BODY)
    for key in keys:
        for status, message in newer_writes(cluster, int(key[4]), key):
            assert status in (501, 503), (key, status, message)
            assert "upgrade" in message
    for node in range(3):
        with s3_client(cluster, node) as client:
            listed = client.list_objects_v2(Bucket=BUCKET)["Contents"]
            assert [each["Key"] for each in listed] == keys
            for key in keys:
                assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == BODY
                assert not client.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"]
            client.put_object(Bucket=BUCKET, Key=f"plain-{node}", Body=BODY)
            client.delete_object(Bucket=BUCKET, Key=f"plain-{node}")
    older.are()
    os.kill(cluster.nodes[2].pid, signal.SIGKILL)  # Its supervisor starts it as a newer one.
    deadline = time.monotonic() + UPGRADED_S_MAX
    while newer_writes(cluster, 0, keys[0])[0][0] not in (200, 412):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    wait_until_it_listens(cluster.nodes[2].s3)
    for key in keys[1:]:
        statuses = [status for status, _ in newer_writes(cluster, int(key[4]), key)]
        assert statuses == [200, 200, 200, 204], key
