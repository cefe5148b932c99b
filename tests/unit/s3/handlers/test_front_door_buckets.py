"""Buckets, and the questions that clients ask about how they are set up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from botocore.exceptions import ClientError
from tests.unit.s3.front_door_site import BOB, CLUSTER, REGION, FrontDoorSite

from octad.client.s3.owners import canonical_id
from octad.storage_node.s3.protocol.requests.s3_operations import S3Operation
from octad.storage_node.s3.protocol.xml.documents import NAMESPACE

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


def code_of(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    response: Any = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def create(s3: S3Client, name: str, location: str = REGION) -> dict[str, Any]:
    configuration: Any = {"LocationConstraint": location}
    answer: Any = s3.create_bucket(Bucket=name, CreateBucketConfiguration=configuration)
    return dict(answer)


def test_a_bucket_is_made_seen_and_removed(s3: S3Client) -> None:
    assert create(s3, "a-new-bucket")["Location"] == "/a-new-bucket"
    assert s3.head_bucket(Bucket="a-new-bucket")["BucketRegion"] == REGION
    assert s3.get_bucket_location(Bucket="a-new-bucket")["LocationConstraint"] == REGION
    s3.delete_bucket(Bucket="a-new-bucket")
    with pytest.raises(ClientError) as refused:
        s3.head_bucket(Bucket="a-new-bucket")
    assert code_of(refused)[0] == 404


def test_a_bucket_needs_no_document(site: FrontDoorSite) -> None:
    assert site.request("PUT", "/bucket-by-hand").status == 200
    assert site.request("PUT", "/bucket-by-hand-2", drop=("content-length",)).status == 200


@pytest.mark.parametrize("name", ["foo-.bar", "foo.-bar"])
def test_a_name_that_no_host_can_have_is_for_no_new_bucket(site: FrontDoorSite, name: str) -> None:
    answer = site.request("PUT", f"/{name}")
    assert (answer.status, answer.code) == (400, "InvalidBucketName")
    site.run(site.store.create_bucket(name, "alice"))  # As an octad without this rule did.
    assert site.request("HEAD", f"/{name}").status == 200
    assert site.request("DELETE", f"/{name}").status == 204


def test_a_bucket_that_one_owns_is_not_made_again(s3: S3Client, bucket: str) -> None:
    with pytest.raises(ClientError) as refused:
        create(s3, bucket)
    assert code_of(refused) == (409, "BucketAlreadyOwnedByYou")


def test_a_bucket_of_somebody_else_is_taken(site: FrontDoorSite, bucket: str) -> None:
    answer = site.request("PUT", f"/{bucket}", credentials=BOB)
    assert (answer.status, answer.code) == (409, "BucketAlreadyExists")


def test_in_the_first_region_making_a_bucket_again_is_a_success() -> None:
    with FrontDoorSite("us-east-1") as site:
        client = site.client()
        for _ in range(2):
            client.create_bucket(Bucket="bucket")
        location: Any = client.get_bucket_location(Bucket="bucket")
        assert location["LocationConstraint"] is None


def test_a_bucket_is_where_its_maker_asked_for_it(site: FrontDoorSite, s3: S3Client) -> None:
    create(s3, "in-a-pair", "octad-2x")
    location: Any = s3.get_bucket_location(Bucket="in-a-pair")
    assert location["LocationConstraint"] == "octad-2x"
    assert site.store.buckets["in-a-pair"].pool == 1


def test_a_pool_that_is_not_there_is_refused_with_those_that_are(s3: S3Client) -> None:
    with pytest.raises(ClientError, match=r"no pool 'octad-9x': the pools are octad-3x, octad-2x"):
        create(s3, "nowhere", "octad-9x")
    with pytest.raises(ClientError):
        s3.head_bucket(Bucket="nowhere")


def test_a_bucket_does_not_change_its_pool_by_being_made_again() -> None:
    with FrontDoorSite("us-east-1") as site:
        client = site.client()
        for _ in range(2):
            create(client, "settled", "octad-2x")
        with pytest.raises(ClientError) as refused:
            create(client, "settled", "octad-3x")
        assert code_of(refused) == (409, "BucketAlreadyOwnedByYou")


def test_a_client_may_sign_for_the_location_that_it_was_told(site: FrontDoorSite) -> None:
    create(site.client(), "told", "octad-2x")
    site.client(region="octad-2x").put_object(Bucket="told", Key="key", Body=b"x")


def test_there_is_one_region(s3: S3Client) -> None:
    with pytest.raises(ClientError) as refused:
        create(s3, "elsewhere", "eu-central-1")
    assert code_of(refused)[1] == "IllegalLocationConstraintException"


@pytest.mark.parametrize("document", [b"<a", b"<!DOCTYPE a><CreateBucketConfiguration/>"])
def test_a_document_that_is_none_is_refused(site: FrontDoorSite, document: bytes) -> None:
    answer = site.request("PUT", "/bad-document", body=document)
    assert (answer.status, answer.code) == (400, "MalformedXML")


@pytest.mark.parametrize("name", ["ab", "Upper", "under_score", "1.2.3.4", "xn--a", "a" * 64])
def test_a_name_that_breaks_the_rules_is_refused(site: FrontDoorSite, name: str) -> None:
    answer = site.request("PUT", f"/{name}")
    assert (answer.status, answer.code) == (400, "InvalidBucketName")


def test_a_bucket_with_objects_stays(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    with pytest.raises(ClientError) as refused:
        s3.delete_bucket(Bucket=bucket)
    assert code_of(refused) == (409, "BucketNotEmpty")


def test_everybody_lists_his_own_buckets_page_by_page(site: FrontDoorSite) -> None:
    bob = site.client(BOB)
    for name in ("bobs-1", "bobs-2", "bobs-3", "other"):
        create(bob, name)
    pages = list(
        bob.get_paginator("list_buckets").paginate(Prefix="bobs", PaginationConfig={"PageSize": 2})
    )
    assert [[bucket["Name"] for bucket in page["Buckets"]] for page in pages] == [
        ["bobs-1", "bobs-2"],
        ["bobs-3"],
    ]
    assert bob.list_buckets()["Owner"]["ID"] == canonical_id(CLUSTER, "bob")
    assert len(bob.list_buckets()["Buckets"]) == 4


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("policy", "NoSuchBucketPolicy"),
        ("tagging", "NoSuchTagSet"),
        ("object-lock", "ObjectLockConfigurationNotFoundError"),
        ("cors", "NoSuchCORSConfiguration"),
        ("encryption", "ServerSideEncryptionConfigurationNotFoundError"),
        ("lifecycle", "NoSuchLifecycleConfiguration"),
    ],
)
def test_what_is_not_configured_is_404_by_its_own_name(
    site: FrontDoorSite, bucket: str, query: str, code: str
) -> None:
    answer = site.request("GET", f"/{bucket}", query)
    assert (answer.status, answer.code) == (404, code)
    assert site.request("GET", "/no-such-bucket", query).code == "NoSuchBucket"


def test_nothing_can_be_locked_in_a_bucket_without_object_lock(
    site: FrontDoorSite, s3: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    until: Any = {"Mode": "GOVERNANCE", "RetainUntilDate": datetime(2030, 1, 1, tzinfo=UTC)}
    rule: Any = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    lock: Any = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    stored = dict(site.store.objects)
    refused = (409, "InvalidBucketState")
    with pytest.raises(ClientError) as error:
        s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=lock)
    assert code_of(error) == refused
    work: Any
    for work, more in (
        (s3.put_object_retention, {"Retention": until}),
        (s3.get_object_retention, {}),
        (s3.put_object_legal_hold, {"LegalHold": {"Status": "ON"}}),
        (s3.get_object_legal_hold, {}),
    ):
        with pytest.raises(ClientError, match="missing Object Lock Configuration") as error:
            work(Bucket=bucket, Key="key", **more)
        assert code_of(error) == (400, "InvalidRequest")
    assert site.store.objects == stored


def test_versioning_was_never_enabled(s3: S3Client, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)


def test_the_owner_may_do_everything_and_nobody_else_anything(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    for acl in (s3.get_bucket_acl(Bucket=bucket), s3.get_object_acl(Bucket=bucket, Key="key")):
        owner = canonical_id(CLUSTER, "alice")
        assert acl["Owner"]["ID"] == owner
        (grant,) = acl["Grants"]
        assert (grant["Grantee"]["ID"], grant["Permission"]) == (owner, "FULL_CONTROL")


def test_an_object_has_no_tags(site: FrontDoorSite, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    assert s3.get_object_tagging(Bucket=bucket, Key="key")["TagSet"] == []
    assert site.request("GET", f"/{bucket}/absent", "tagging").code == "NoSuchKey"


def test_every_document_has_s3s_namespace(site: FrontDoorSite, bucket: str) -> None:
    for path, query in (("/", ""), (f"/{bucket}", ""), (f"/{bucket}", "acl")):
        root = ElementTree.fromstring(site.request("GET", path, query).body)
        assert root.tag.startswith(f"{{{NAMESPACE}}}")


def operations_of_s3(s3: S3Client) -> list[tuple[str, str, str]]:
    """(name, method, target) of every operation that boto3 knows, with plain values put in."""
    model = s3.meta.service_model
    found = []
    for name in model.operation_names:
        http = model.operation_model(name).http
        target = http["requestUri"].replace("{Bucket}", "BUCKET").replace("{Key+}", "key")
        found.append((name, http["method"], target))
    return found


def test_every_operation_of_s3_is_done_or_501(
    site: FrontDoorSite, s3: S3Client, bucket: str
) -> None:
    done = {operation.value for operation in S3Operation}
    strangers = {"WriteGetObjectResponse"}  # It belongs to another host and service.
    refused = 0
    for name, method, target in operations_of_s3(s3):
        path, _, query = target.replace("BUCKET", bucket).partition("?")
        # Those that differ from a plain request by more than their target.
        if name in done | strangers or query.startswith("x-id=") or not query:
            continue
        answer = site.request(method, path, query)
        if method == "HEAD":
            assert answer.status == 501, name
        elif answer.status != 501:
            shares_target = {"GetBucketLifecycle", "GetBucketNotification"}
            assert name in shares_target, (name, answer)
            continue
        refused += 1
    assert refused > 50
