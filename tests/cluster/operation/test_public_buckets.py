"""Buckets that their owners open: read by curl without a key, written by another owner, filled by a
browser's form."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from tests.harness.cluster_process import OCTAD, DevCluster, Refused
from tests.harness.s3_clients import aws_environment, client_of, put_status, s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.cluster

AWS = Path(sys.executable).with_name("aws")
LARGE = bytes(range(256)) * 8192  # Stored in extents, on other nodes than the one asked.
SEEN_S_MAX = 10.0  # Until every node knows a bucket's new settings.


def octad(cluster: DevCluster, *words: str) -> str:
    command: list[str | Path] = [OCTAD, "bucket", *words, "--data", cluster.data]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout


def aws(cluster: DevCluster, *words: str | Path, data: bytes = b"") -> None:
    subprocess.run([AWS, *words], input=data, env=aws_environment(cluster), timeout=60, check=True)


def curl(cluster: DevCluster, node: int, path: str, *options: str) -> tuple[int, bytes]:
    """(status, body) of a request without credentials."""
    command = ["curl", "-s", "--noproxy", "*", "-w", "\n%{http_code}", *options]
    done = subprocess.run(
        [*command, f"{cluster.endpoint(node)}{path}"], capture_output=True, timeout=30, check=True
    )
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


def soon(is_so: Callable[[], bool]) -> bool:
    """Nodes hear of a change by their watches, within moments."""
    until = time.monotonic() + SEEN_S_MAX
    while not is_so() and time.monotonic() < until:
        time.sleep(0.05)
    return is_so()


def is_answered(cluster: DevCluster, node: int, path: str, status: int) -> bool:
    return curl(cluster, node, path)[0] == status


def is_put(client: S3Client, status: int) -> bool:
    return put_status(client, "shared", "new", b"x") == status


def test_an_operator_opens_a_bucket_its_owner_an_object_and_curl_reads_it(
    cluster: DevCluster, refused: Refused
) -> None:
    with s3_client(cluster) as s3:
        s3.create_bucket(Bucket="open")
        with pytest.raises(ClientError, match="AccessControlListNotSupported"):
            s3.put_object(Bucket="open", Key="key", Body=b"data", ACL="public-read")
        assert "public-read" in octad(cluster, "public", "open")
        assert octad(cluster, "public", "open") == octad(cluster, "public", "open")
        aws(cluster, "s3", "cp", "-", "s3://open/large", "--acl", "public-read", data=LARGE)
        s3.put_object(Bucket="open", Key="small", Body=b"data", ACL="public-read")
        s3.put_object(Bucket="open", Key="private", Body=b"secret")
        for node in range(3):
            assert soon(partial(is_answered, cluster, node, "/open/small", 200))
            assert curl(cluster, node, "/open/large") == (200, LARGE)
            assert curl(cluster, node, "/open/large", "-r", "-5") == (206, LARGE[-5:])
            for path in ("/open/private", "/open/absent", "/open", "/open?acl", "/absent/small"):
                assert curl(cluster, node, path)[0] == 403
            assert curl(cluster, node, "/open/small", "-X", "DELETE")[0] == 403
            assert curl(cluster, node, "/open/new", "-T", "/dev/null")[0] == 403
        aws(cluster, "s3api", "put-bucket-acl", "--bucket", "open", "--acl", "public-read")
        assert soon(lambda: b"<Key>private</Key>" in curl(cluster, 1, "/open")[1])
        octad(cluster, "public", "open", "--off")
        for node in range(3):
            assert soon(partial(is_answered, cluster, node, "/open/small", 403))
            assert curl(cluster, node, "/open")[0] == 403
        assert s3.get_object(Bucket="open", Key="small")["Body"].read() == b"data"
    line = refused("bucket", "public", "absent", "--data", str(cluster.data))
    assert "there is no bucket absent" in line


def test_another_owner_is_let_in_to_write_and_shut_out_again_at_every_node(
    cluster: DevCluster,
) -> None:
    command: list[str | Path] = [OCTAD, "key", "create", "bob", "--json", "--data", cluster.data]
    done = subprocess.run(command, capture_output=True, timeout=30, check=True)
    bob = json.loads(done.stdout)
    keys = bob["access_key"], bob["secret_key"]
    with s3_client(cluster) as owner, ExitStack() as stack:
        his = [stack.enter_context(client_of(cluster.endpoint(node), *keys)) for node in range(3)]
        owner.create_bucket(Bucket="shared", ObjectOwnership="ObjectWriter")
        owner.put_object(Bucket="shared", Key="secret", Body=b"secret")
        for client in his:
            assert soon(partial(is_put, client, 403))
        owner.put_bucket_acl(Bucket="shared", GrantWrite=f"id={bob['owner_id']}")
        for node, client in enumerate(his):
            assert soon(partial(is_put, client, 200))
            for key, data in ((f"small-{node}", b"data"), (f"large-{node}", LARGE)):
                assert put_status(client, "shared", key, data) == 200
                for reader in (*his, owner):
                    assert reader.get_object(Bucket="shared", Key=key)["Body"].read() == data
            for key in ("secret", "absent"):
                with pytest.raises(ClientError, match="AccessDenied"):
                    client.get_object(Bucket="shared", Key=key)
        assert curl(cluster, 0, "/shared/small-0")[0] == 403
        his[1].put_object_acl(Bucket="shared", Key="small-0", GrantReadACP=f"id={bob['owner_id']}")
        grants = his[2].get_object_acl(Bucket="shared", Key="small-0")["Grants"]
        assert [(each["Grantee"]["ID"], each["Permission"]) for each in grants] == [
            (bob["owner_id"], "READ_ACP")
        ]
        owner.put_bucket_acl(Bucket="shared", ACL="private")
        for client in his:
            assert soon(partial(is_put, client, 403))
            with pytest.raises(ClientError, match="AccessDenied"):
                client.get_object(Bucket="shared", Key="small-0")
            assert client.get_object(Bucket="shared", Key="large-1")["Body"].read() == LARGE


def test_an_access_list_and_settings_outlive_all_processes(
    start_cluster: Callable[..., DevCluster],
) -> None:
    cluster = start_cluster(nodes=1, options=("--s3-block-public", "off"))
    rules: Any = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["https://app.example.org"]}]
    with s3_client(cluster) as s3:
        s3.create_bucket(Bucket="kept", ACL="public-read")
        s3.put_bucket_cors(Bucket="kept", CORSConfiguration={"CORSRules": rules})
        s3.put_object(Bucket="kept", Key="key", Body=b"data")
        s3.put_object_acl(Bucket="kept", Key="key", ACL="public-read")
    assert curl(cluster, 0, "/kept/key") == (200, b"data")
    cluster.kill()
    cluster.start()
    assert curl(cluster, 0, "/kept/key") == (200, b"data")
    assert b"<Key>key</Key>" in curl(cluster, 0, "/kept")[1]
    told = curl(cluster, 0, "/kept/key", "-i", "-H", "Origin: https://app.example.org")[1]
    assert b"Access-Control-Allow-Origin: https://app.example.org\r\n" in told
    cluster.stop()


def test_a_browser_asks_beforehand_and_sends_a_form_of_any_size(
    cluster: DevCluster, tmp_path: Path
) -> None:
    with s3_client(cluster) as s3:
        s3.create_bucket(Bucket="forms")
        rules: Any = [{"AllowedMethods": ["POST"], "AllowedOrigins": ["*"]}]
        s3.put_bucket_cors(Bucket="forms", CORSConfiguration={"CORSRules": rules})
        asks = ("-X", "OPTIONS", "-H", "Access-Control-Request-Method: POST", "-H", "Origin: a")
        assert soon(lambda: curl(cluster, 1, "/forms", *asks)[0] == 200)
        for size in (4, len(LARGE)):
            file = tmp_path / f"file-{size}"
            file.write_bytes(LARGE[:size])
            limit = ["content-length-range", 1, len(LARGE)]
            post = s3.generate_presigned_post("forms", "${filename}", Conditions=[limit])
            fields = [
                part for name, value in post["fields"].items() for part in ("-F", f"{name}={value}")
            ]
            status, _ = curl(cluster, 1, "/forms", *fields, "-F", f"file=@{file}")
            assert status == 204
            assert s3.get_object(Bucket="forms", Key=file.name)["Body"].read() == LARGE[:size]
            file.write_bytes(LARGE + b"more")
            assert curl(cluster, 1, "/forms", *fields, "-F", f"file=@{file}")[0] == 400
            assert s3.head_object(Bucket="forms", Key=file.name)["ContentLength"] == size
