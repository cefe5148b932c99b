"""Checksums of every kind by real clients through real nodes; tags that no race or crash loses."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from tests.cluster.dev.test_one_copy import doctor_of_a_well_cluster
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.s3_clients import aws_environment, s3_client

from octad.client.s3.checksums import ALGORITHMS, checksum_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.cluster

AWS = Path(sys.executable).with_name("aws")
BY_BOTO = [algorithm for algorithm in ALGORITHMS if algorithm != "MD5"]  # Which it only hands on.
SMALL, LARGE = b"inline", random.Random(1).randbytes(300_000)
PARTS = random.Random(2).randbytes(6 * 1024 * 1024)
RACE_S = 3.0


def made_bucket(client: S3Client, name: str) -> str:
    client.create_bucket(Bucket=name)
    return name


def checksum_in(answer: Any, algorithm: str) -> tuple[str, str]:
    return answer[f"Checksum{algorithm}"], answer["ChecksumType"]


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["inline", "in extents"])
def test_boto3_puts_and_reads_with_every_checksum(cluster: DevCluster, body: bytes) -> None:
    with s3_client(cluster) as client, s3_client(cluster, node=1) as other:
        bucket = made_bucket(client, f"checksums-{len(body)}")
        for algorithm in ALGORITHMS:
            value = checksum_of(algorithm, body)
            name, said = f"Checksum{algorithm}", (value, "FULL_OBJECT")
            how: Any = {"ChecksumAlgorithm": algorithm} if algorithm in BY_BOTO else {name: value}
            put = client.put_object(Bucket=bucket, Key=algorithm, Body=body, **how)
            assert checksum_in(put, algorithm) == said
            got = other.get_object(Bucket=bucket, Key=algorithm, ChecksumMode="ENABLED")
            assert (got["Body"].read(), checksum_in(got, algorithm)) == (body, said)
            wrong: Any = {name: checksum_of(algorithm, b"other")}
            with pytest.raises(ClientError, match="BadDigest"):
                client.put_object(Bucket=bucket, Key="refused", Body=body, **wrong)
            copied = other.copy_object(
                Bucket=bucket,
                Key="copy",
                CopySource={"Bucket": bucket, "Key": "CRC32"},
                ChecksumAlgorithm=algorithm,  # type: ignore[arg-type]
            )
            assert copied["CopyObjectResult"][name] == value  # type: ignore[literal-required]
        keys = [each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]]
        assert keys == sorted([*ALGORITHMS, "copy"])


def test_boto3_uploads_parts_with_every_checksum(cluster: DevCluster, tmp_path: Path) -> None:
    file = tmp_path / "parts"
    file.write_bytes(PARTS)
    config = TransferConfig(multipart_threshold=1, multipart_chunksize=5 * 1024 * 1024)
    bodies = PARTS[: 5 * 1024 * 1024], PARTS[5 * 1024 * 1024 :]
    with s3_client(cluster) as client, s3_client(cluster, node=2) as other:
        bucket = made_bucket(client, "checksums-of-parts")
        for algorithm in BY_BOTO:
            extra = {"ChecksumAlgorithm": algorithm}
            client.upload_file(str(file), bucket, algorithm, ExtraArgs=extra, Config=config)
            for number, body in enumerate(bodies, 1):
                part = other.get_object(
                    Bucket=bucket, Key=algorithm, PartNumber=number, ChecksumMode="ENABLED"
                )
                assert part["Body"].read() == body
                assert checksum_in(part, algorithm)[0] == checksum_of(algorithm, body)
            whole = other.get_object(Bucket=bucket, Key=algorithm, ChecksumMode="ENABLED")
            assert whole["Body"].read() == PARTS
            assert checksum_in(whole, algorithm)[1] in ("COMPOSITE", "FULL_OBJECT")


def test_the_aws_command_line_sees_what_it_put(cluster: DevCluster, tmp_path: Path) -> None:
    def aws(*arguments: str) -> Any:
        command = [str(AWS), "s3api", *arguments, "--bucket", "by-aws"]
        done = subprocess.run(
            command, env=aws_environment(cluster), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    (tmp_path / "body").write_bytes(LARGE)
    body = ("--key", "key", "--body", str(tmp_path / "body"))
    with s3_client(cluster) as client:
        made_bucket(client, "by-aws")
    aws("put-object", *body, "--checksum-algorithm", "XXHASH128", "--tagging", "a=1&b=x%20y")
    tags = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "x y"}]
    assert aws("get-object-tagging", "--key", "key")["TagSet"] == tags
    told = aws(
        "get-object-attributes", "--key", "key", "--object-attributes", "Checksum", "ObjectSize"
    )
    assert told["ObjectSize"] == len(LARGE)
    assert told["Checksum"]["ChecksumXXHASH128"] == checksum_of("XXHASH128", LARGE)


class Race:
    """Writers, deleters and taggers of a few keys, and what they must never see."""

    def __init__(self, cluster: DevCluster, bucket: str) -> None:
        self.cluster = cluster
        self.bucket = bucket
        self.until = time.monotonic() + RACE_S

    def run(self) -> None:
        with ThreadPoolExecutor(6) as pool:
            for work in [pool.submit(self._work, seed) for seed in range(6)]:
                work.result()

    def _work(self, seed: int) -> None:
        rng = random.Random(seed)
        with s3_client(self.cluster, node=seed % 3) as client:
            while time.monotonic() < self.until:
                at: Any = {"Bucket": self.bucket, "Key": f"key-{rng.randrange(3)}"}
                try:
                    self._one(client, rng, at)
                except ClientError as error:
                    if error.response["Error"]["Code"] != "NoSuchKey":
                        raise

    def _one(self, client: S3Client, rng: random.Random, at: Any) -> None:
        chosen = rng.random()
        if chosen < 0.3:
            client.put_object(**at, Body=rng.choice([SMALL, LARGE]) + rng.randbytes(8))
        elif chosen < 0.6:
            tags: Any = [{"Key": "of", "Value": str(rng.random())}]
            client.put_object_tagging(**at, Tagging={"TagSet": tags})
        elif chosen < 0.7:
            client.delete_object(**at)
        else:
            got = client.get_object(**at)
            body = got["Body"].read()
            assert got["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'


def test_tags_change_in_a_race_and_survive_the_death_of_every_process(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    kept = {"small": SMALL, "large": LARGE}
    with s3_client(cluster) as client:
        bucket = made_bucket(client, "tagged")
        etags = {
            key: client.put_object(Bucket=bucket, Key=key, Body=body, Tagging="a=1")["ETag"]
            for key, body in kept.items()
        }
        Race(cluster, bucket).run()
        for key in kept:
            tags: Any = [{"Key": "last", "Value": key}]
            client.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": tags})
    cluster.kill()
    cluster.start()
    for node in range(3):
        with s3_client(cluster, node) as client:
            for key, body in kept.items():
                got = client.get_object(Bucket=bucket, Key=key)
                assert (got["Body"].read(), got["ETag"]) == (body, etags[key])
                tag_set = client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
                assert tag_set == [{"Key": "last", "Value": key}]
    doctor_of_a_well_cluster(cluster)
