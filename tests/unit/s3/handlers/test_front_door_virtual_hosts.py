"""Buckets as hosts: the same bucket and the same objects as by path, whoever signs and however."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from tests.unit.s3.front_door_site import FrontDoorSite

from octad.storage_node.cli.node_options import s3_domains
from octad.storage_node.s3.protocol.requests.targets import bucket_of_host


@pytest.fixture(scope="module", params=["hot", "aiohttp"])
def site(request: pytest.FixtureRequest) -> Iterator[FrontDoorSite]:
    """With two domains."""
    with FrontDoorSite(
        "us-east-1",
        all_through_aiohttp=request.param == "aiohttp",
        domains=("localhost", "s3.example.org"),
    ) as site:
        yield site


@pytest.fixture(autouse=True)
def every_name_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine's resolver says of names under `localhost`."""
    look_up = socket.getaddrinfo

    def here(host: Any, *rest: Any, **named: Any) -> Any:
        return look_up("127.0.0.1" if "localhost" in str(host) else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", here)


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        ("photos.localhost", "photos"),
        ("photos.localhost:9000", "photos"),
        ("Photos.LocalHost.:9000", "photos"),
        ("my.photos.s3.example.org", "my.photos"),
        ("localhost", ""),
        ("localhost:9000", ""),
        ("s3.example.org", ""),
        ("example.org", ""),
        ("photos.example.org", ""),
        ("mylocalhost", ""),
        ("photos.localhost.example.org", ""),
        ("127.0.0.1:9000", ""),
        ("[::1]:9000", ""),
        (".localhost", ""),
        ("", ""),
    ],
)
def test_a_host_under_a_domain_is_a_bucket(host: str, bucket: str) -> None:
    assert bucket_of_host(host, ("localhost", "s3.example.org")) == bucket
    assert bucket_of_host(host, ()) == ""


def test_a_domain_under_another_is_no_bucket() -> None:
    domains = s3_domains(["localhost", "s3.localhost"])
    names = {"photos.s3.localhost": "photos", "s3.localhost:9000": "", "photos.localhost": "photos"}
    assert {host: bucket_of_host(host, domains) for host in names} == names


def test_boto3_finds_by_host_what_it_put_by_path(site: FrontDoorSite, bucket: str) -> None:
    by_path = site.client()
    by_host = site.client(style="virtual", host=f"localhost:{site.door.port}")
    by_path.put_object(Bucket=bucket, Key="a/b ü", Body=b"data")
    assert by_host.get_object(Bucket=bucket, Key="a/b ü")["Body"].read() == b"data"
    by_host.put_object(Bucket=bucket, Key="//x/../y", Body=b"other")
    assert site.keys(bucket) == [b"//x/../y", "a/b ü".encode()]
    listed = by_host.list_objects_v2(Bucket=bucket)
    assert [each["Key"] for each in listed["Contents"]] == ["//x/../y", "a/b ü"]
    upload = by_host.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    part = by_host.upload_part(Bucket=bucket, Key="m", UploadId=upload, PartNumber=1, Body=b"x")
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    done = by_host.complete_multipart_upload(
        Bucket=bucket, Key="m", UploadId=upload, MultipartUpload=parts
    )
    assert done["Location"] == f"http://{bucket}.localhost:{site.door.port}/m"
    by_host.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "m"}]})
    by_host.create_bucket(Bucket=f"{bucket}-new")
    by_host.head_bucket(Bucket=f"{bucket}-new")
    by_host.delete_bucket(Bucket=f"{bucket}-new")
    with pytest.raises(ClientError):
        by_host.head_bucket(Bucket=f"{bucket}-new")


@pytest.mark.parametrize("version", [{}, {"signature_version": "s3v4"}])
def test_links_name_the_bucket_in_their_host(
    site: FrontDoorSite, bucket: str, version: dict[str, Any]
) -> None:
    by_host = site.client(style="virtual", host=f"localhost:{site.door.port}", **version)
    by_host.put_object(Bucket=bucket, Key="a b", Body=b"data")
    url = urlsplit(
        by_host.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a b"})
    )
    assert url.netloc.startswith(f"{bucket}.localhost:")
    target = f"{url.path}?{url.query}"
    answer = site.raw("GET", target, {"host": url.netloc}, b"")
    assert (answer.status, answer.body) == (200, b"data")
    elsewhere = site.raw("GET", target, {"host": f"other.localhost:{site.door.port}"}, b"")
    assert elsewhere.status == 403


def test_the_host_is_part_of_what_is_signed(site: FrontDoorSite, bucket: str) -> None:
    site.request("PUT", f"/{bucket}/key", body=b"data")
    host = {"host": f"{bucket}.s3.example.org"}
    assert site.request("GET", "/key", headers=host).body == b"data"
    moved = site.request("GET", f"/{bucket}/key", unsigned_headers=host)
    assert moved.code == "SignatureDoesNotMatch"


def test_a_name_that_no_bucket_has_is_refused(site: FrontDoorSite) -> None:
    answer = site.request("GET", "/key", headers={"host": "no_bucket.localhost"})
    assert (answer.status, answer.code) == (400, "InvalidBucketName")


def test_without_a_domain_a_host_is_only_a_host() -> None:
    with FrontDoorSite("us-east-1") as site:
        site.run(site.store.create_bucket("bucket", "alice"))
        answer = site.request("GET", "/bucket", headers={"host": "other.localhost"})
        assert answer.status == 200
