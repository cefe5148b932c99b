"""`octad trace`: an admin sees requests as they end, on the nodes that he names; no one else."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest
from botocore.exceptions import ClientError
from tests.harness.cluster_process import OCTAD, DevCluster
from tests.harness.s3_clients import s3_client

from octad.client.s3.trace_document import TRACE_PATH

pytestmark = pytest.mark.cluster


def environment(access_key: str, secret_key: str) -> dict[str, str]:
    return os.environ | {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}


def traced(cluster: DevCluster, keys: tuple[str, str], *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [OCTAD, "trace", *words, "--data", cluster.data],
        env=environment(*keys),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def document(stream: IO[str] | None) -> dict[str, object]:
    assert stream is not None
    found: dict[str, object] = json.loads(stream.readline())
    return found


def test_failed_requests_are_seen_as_they_end_until_as_many_as_were_asked_for(
    cluster: DevCluster,
) -> None:
    admin = cluster.access_key, cluster.secret_key
    tracing = traced(cluster, admin, "--status", "404", "--json", "--count", "3")
    try:
        with s3_client(cluster) as client:
            client.create_bucket(Bucket="traced")
            client.put_object(Bucket="traced", Key="there", Body=b"12345")
            while tracing.poll() is None:
                client.head_object(Bucket="traced", Key="there")
                with suppress(ClientError):
                    client.get_object(Bucket="traced", Key="not there")
        assert tracing.returncode == 0
        lines = [document(tracing.stdout) for _ in range(3)]
    finally:
        tracing.kill()
        tracing.communicate()
    assert {(line["operation"], line["path"], line["status"]) for line in lines} == {
        ("GetObject", "/traced/not%20there", 404)
    }
    assert {line["key_id"] for line in lines} == {cluster.access_key}
    assert {line["node"] for line in lines} <= {"n1", "n2", "n3"}


def test_who_is_no_admin_sees_nothing(cluster: DevCluster, tmp_path: Path) -> None:
    admin = environment(cluster.access_key, cluster.secret_key)
    command = [str(OCTAD), "key", "create", "viewer", "--json", "--data", str(cluster.data)]
    made = json.loads(subprocess.run(command, env=admin, capture_output=True, check=True).stdout)
    tracing = traced(cluster, (made["access_key"], made["secret_key"]))
    out, err = tracing.communicate(timeout=60)
    assert (tracing.returncode, out) == (1, "")
    assert "the access key is not an admin's" in err
    status = json.loads(
        subprocess.run(
            [str(OCTAD), "status", "--json", "--data", str(cluster.data)],
            capture_output=True,
            check=True,
        ).stdout
    )
    stranger = http.client.HTTPConnection(status["nodes"][0]["admin_address"], timeout=10)
    stranger.request("GET", TRACE_PATH)
    answer = stranger.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (403, "AccessDenied")
    stranger.close()
