"""DeleteObjects while a node that leads a third of the shards is killed."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest
from tests.harness.cluster_process import StartCluster
from tests.harness.s3_clients import retrying_client

pytestmark = pytest.mark.cluster

KEYS_AT_ONCE = 300
KILLED_AFTER_S = 0.03  # When some of the entries are ordered, and hardly any is acknowledged.


def test_what_is_told_to_be_deleted_is_and_nothing_else_while_a_node_is_killed(
    start_cluster: StartCluster,
) -> None:
    """Keys that are put again as soon as their deletion is told stay, whatever comes late."""
    bucket = "deleted-together"
    cluster = start_cluster()
    client = retrying_client(cluster, 1)
    client.create_bucket(Bucket=bucket)
    with ThreadPoolExecutor(8) as pool:
        rounds = [[f"{turn}-{number}" for number in range(KEYS_AT_ONCE)] for turn in range(2)]
        left_alone = [f"left-{number}" for number in range(20)]

        def put(key: str) -> None:
            client.put_object(Bucket=bucket, Key=key, Body=key.encode())

        list(pool.map(put, chain(left_alone, *rounds)))
        stands = set(left_alone)
        kill = threading.Timer(KILLED_AFTER_S, os.kill, (cluster.nodes[0].pid, signal.SIGKILL))
        kill.start()
        for keys in rounds:
            answer = client.delete_objects(
                Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]}
            )
            assert "Errors" not in answer
            assert {each["Key"] for each in answer["Deleted"]} == set(keys)
            again = keys[::10]
            list(pool.map(put, again))
            stands.update(again)
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        assert {each["Key"] for page in pages for each in page.get("Contents", [])} == stands
    client.close()
