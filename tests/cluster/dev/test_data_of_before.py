"""Data that an earlier octad wrote opens unchanged: three nodes, small and large objects.

The archive was made by the commit with the tag `before-rooms`: objects of all sizes, one put twice,
ten deleted, an upload completed and one left open; then `octad dev` was stopped.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
from tests.cluster.dev.test_one_copy import doctor_of_a_well_cluster
from tests.harness.cluster_process import OCTAD, DevCluster
from tests.harness.s3_clients import environment_of_others, s3_client

pytestmark = pytest.mark.cluster

ARCHIVE = Path(__file__).parents[2] / "golden" / "data_directory" / "three-nodes-v1.tar.xz"
BUCKET = "before"
SIZES = {"empty": 0, "inline": 100_000, "extent": 300_000, "two pieces/ü": 1_500_000}
COUNTED_S_MAX = 60.0  # For 256 shards, on a busy machine.
FIRST_PART_BYTES = 5 * 1024 * 1024


def body(name: str, size: int) -> bytes:
    block = hashlib.sha256(name.encode()).digest()
    return (block * (size // len(block) + 1))[:size]


def test_a_cluster_of_before_serves_what_it_kept(tmp_path: Path) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    cluster = DevCluster(tmp_path)
    cluster.start()
    try:
        all_is_there(cluster)
        cluster.stop()
    finally:
        cluster.kill()


def all_is_there(cluster: DevCluster) -> None:
    expected = {name: body(name, size) for name, size in SIZES.items()}
    expected |= {f"many/{i:03}": body(f"many/{i:03}", i) for i in range(40) if i % 4}
    expected["small"] = body("again", 50)
    expected["parts"] = body("part 1", FIRST_PART_BYTES) + body("part 2", 1000)
    for node in range(3):
        with s3_client(cluster, node) as client:
            listed = client.list_objects_v2(Bucket=BUCKET)["Contents"]
            assert [each["Key"] for each in listed] == sorted(expected, key=str.encode)
            for key, content in expected.items():
                assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == content, key
            head = client.head_object(Bucket=BUCKET, Key="inline")
            assert (head["Metadata"], head["ContentType"]) == ({"size": "100000"}, "text/x-before")
    with s3_client(cluster) as client:
        upload = client.list_multipart_uploads(Bucket=BUCKET)["Uploads"][0]
        parts = client.list_parts(Bucket=BUCKET, Key="open upload", UploadId=upload["UploadId"])[
            "Parts"
        ]
        client.complete_multipart_upload(
            Bucket=BUCKET,
            Key="open upload",
            UploadId=upload["UploadId"],
            MultipartUpload={"Parts": [{"PartNumber": 7, "ETag": parts[0]["ETag"]}]},
        )
        done = client.get_object(Bucket=BUCKET, Key="open upload")["Body"].read()
        assert done == body("part 7", 1000)
    doctor_of_a_well_cluster(cluster)
    sizes = [len(content) for content in expected.values()] + [len(done)]
    wait_until_counted(cluster, len(sizes), sum(sizes))


def wait_until_counted(cluster: DevCluster, objects: int, size: int) -> None:
    """What no octad has counted until now is, as it is for an admin."""
    deadline = time.monotonic() + COUNTED_S_MAX
    while True:
        command: list[str | Path] = [OCTAD, "bucket", "ls", "--json", "--data", cluster.data]
        said = subprocess.run(
            command, capture_output=True, timeout=20, check=True, env=environment_of_others()
        )
        found = {each["name"]: each for each in json.loads(said.stdout)["buckets"]}[BUCKET]
        if (found["objects"], found["bytes"]) == (objects, size):
            return
        assert time.monotonic() < deadline, (found, objects, size)
        time.sleep(0.2)
