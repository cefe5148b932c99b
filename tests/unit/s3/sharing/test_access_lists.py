"""Access lists, ownership, blocks: what is stored is kept to, and what is shown is true."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from botocore.exceptions import ClientError
from tests.unit.s3.front_door_site import BOB, CLUSTER, FrontDoorSite

from octad.client.s3.owners import canonical_id
from octad.coordinator.schema.bucket_settings import ALL_BLOCKED, OPEN, BucketSettings
from octad.sharding.limits import PART_BYTES_MIN

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
MEMBERS = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
ALICE_ID, BOB_ID = canonical_id(CLUSTER, "alice"), canonical_id(CLUSTER, "bob")
FULL: Any = {
    "Grantee": {"DisplayName": "alice", "ID": ALICE_ID, "Type": "CanonicalUser"},
    "Permission": "FULL_CONTROL",
}
numbers = itertools.count(1)


def to(kind: str, permission: str = "READ", **grantee: str) -> Any:
    return {"Grantee": {"Type": kind, **grantee}, "Permission": permission}


def read_by(group: str) -> Any:
    return {"Grantee": {"Type": "Group", "URI": group}, "Permission": "READ"}


GRANTS = {
    "private": [FULL],
    "bucket-owner-full-control": [FULL],
    "bucket-owner-read": [FULL],
    "public-read": [read_by(ALL_USERS), FULL],
    "authenticated-read": [read_by(MEMBERS), FULL],
    "public-read-write": [read_by(ALL_USERS), {**read_by(ALL_USERS), "Permission": "WRITE"}, FULL],
}


@pytest.fixture
def opened(site: FrontDoorSite) -> str:
    """A bucket of alice's where access lists count and nothing is blocked."""
    name = f"opened-{next(numbers)}"
    site.run(site.store.create_bucket(name, "alice", settings=OPEN))
    return name


def code_of(work: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as refused:
        work(**arguments)
    return str(refused.value.response["Error"]["Code"])


def is_read_by_anybody(site: FrontDoorSite, bucket: str, key: str) -> bool:
    return site.request("GET", f"/{bucket}/{key}", credentials=None).status == 200


@pytest.mark.parametrize("acl", GRANTS)
def test_a_canned_list_is_kept_shown_and_kept_to(
    site: FrontDoorSite, s3: S3Client, opened: str, acl: Any
) -> None:
    anybody = acl in ("public-read", "public-read-write")
    member = anybody or acl == "authenticated-read"
    part: Any = {"Bucket": opened, "Key": "many"}
    s3.put_bucket_acl(Bucket=opened, ACL=acl)
    s3.put_object(Bucket=opened, Key="put", Body=b"data", ACL=acl)
    s3.put_object(Bucket=opened, Key="changed", Body=b"data")
    s3.put_object_acl(Bucket=opened, Key="changed", ACL=acl)
    s3.copy_object(Bucket=opened, Key="copy", CopySource=f"{opened}/changed", ACL=acl)
    upload = s3.create_multipart_upload(**part, ACL=acl)["UploadId"]
    etag = s3.upload_part(**part, UploadId=upload, PartNumber=1, Body=b"data")["ETag"]
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    s3.complete_multipart_upload(**part, UploadId=upload, MultipartUpload=parts)
    assert s3.get_bucket_acl(Bucket=opened)["Grants"] == GRANTS[acl]
    assert site.request("GET", f"/{opened}", credentials=None).status == (200 if anybody else 403)
    assert site.request("GET", f"/{opened}", credentials=BOB).status == (200 if member else 403)
    for key in ("put", "changed", "copy", "many"):
        assert s3.get_object_acl(Bucket=opened, Key=key)["Grants"] == GRANTS[acl]
        assert is_read_by_anybody(site, opened, key) == anybody
        assert site.request("GET", f"/{opened}/{key}", credentials=BOB).status == (
            200 if member else 403
        )


def test_another_write_of_the_key_is_private_again(
    site: FrontDoorSite, s3: S3Client, opened: str
) -> None:
    s3.put_object(Bucket=opened, Key="key", Body=b"data", ACL="public-read")
    assert is_read_by_anybody(site, opened, "key")
    s3.put_object(Bucket=opened, Key="key", Body=b"data")
    assert not is_read_by_anybody(site, opened, "key")


def test_a_list_changes_nothing_else_of_its_object(
    site: FrontDoorSite, s3: S3Client, opened: str
) -> None:
    large = bytes(PART_BYTES_MIN)
    s3.put_object(Bucket=opened, Key="large", Body=large, Metadata={"a": "b"})
    before = s3.get_object(Bucket=opened, Key="large")
    assert before["Body"].read() == large
    lists: Any = (("public-read", True), ("private", False), ("private", False))
    for acl, anybody in lists:
        s3.put_object_acl(Bucket=opened, Key="large", ACL=acl)
        assert is_read_by_anybody(site, opened, "large") == anybody
    after = s3.get_object(Bucket=opened, Key="large")
    assert after["Body"].read() == large
    for name in ("ETag", "LastModified", "Metadata", "ContentLength"):
        assert after[name] == before[name]
    assert code_of(s3.put_object_acl, Bucket=opened, Key="absent", ACL="public-read") == "NoSuchKey"


@pytest.mark.parametrize("acl", ["private", "public-read", "authenticated-read"])
def test_a_document_that_says_no_more_than_a_canned_list_is_that(
    s3: S3Client, opened: str, acl: str
) -> None:
    s3.put_object(Bucket=opened, Key="key", Body=b"data")
    said: Any = {"Owner": {"ID": ALICE_ID}, "Grants": GRANTS[acl]}
    s3.put_bucket_acl(Bucket=opened, AccessControlPolicy=said)
    s3.put_object_acl(Bucket=opened, Key="key", AccessControlPolicy=said)
    assert s3.get_bucket_acl(Bucket=opened)["Grants"] == GRANTS[acl]
    assert s3.get_object_acl(Bucket=opened, Key="key")["Grants"] == GRANTS[acl]


@pytest.mark.parametrize(
    ("grants", "code"),
    [
        ([FULL, {**FULL, "Permission": "EVERYTHING"}], "MalformedACLError"),
        ([FULL] * 101, "MalformedACLError"),
        ([to("CanonicalUser", ID="0" * 64)], "InvalidArgument"),
        ([to("CanonicalUser", ID="bob")], "InvalidArgument"),
        ([to("CanonicalUser", ID="")], "InvalidArgument"),
        ([to("Group", URI="http://acs.amazonaws.com/groups/s3/LogDelivery")], "InvalidArgument"),
        ([to("Group", URI="*")], "InvalidArgument"),
        (
            [to("AmazonCustomerByEmail", EmailAddress="b@example.org")],
            "UnresolvableGrantByEmailAddress",
        ),
    ],
)
def test_a_document_that_names_nobody_is_refused_and_changes_nothing(
    s3: S3Client, opened: str, grants: Any, code: str
) -> None:
    said: Any = {"Owner": {"ID": ALICE_ID}, "Grants": grants}
    s3.put_bucket_acl(Bucket=opened, ACL="public-read")
    assert code_of(s3.put_bucket_acl, Bucket=opened, AccessControlPolicy=said) == code
    theirs: Any = {"Owner": {"ID": BOB_ID}, "Grants": [FULL]}
    assert code_of(s3.put_bucket_acl, Bucket=opened, AccessControlPolicy=theirs) == "AccessDenied"
    assert s3.get_bucket_acl(Bucket=opened)["Grants"] == GRANTS["public-read"]


@pytest.mark.parametrize(
    "body", [b"<a/>", b"<AccessControlPolicy/>", b"<!DOCTYPE a><AccessControlPolicy/>", b"no"]
)
def test_what_is_no_access_list_is_refused(site: FrontDoorSite, opened: str, body: bytes) -> None:
    answer = site.request("PUT", f"/{opened}", "acl", body=body)
    assert (answer.status, answer.code) == (400, "MalformedACLError")
    both = site.request("PUT", f"/{opened}", "acl", headers={"x-amz-acl": "private"}, body=body)
    assert (both.status, both.code) == (400, "UnexpectedContent")
    neither = site.request("PUT", f"/{opened}", "acl")
    assert (neither.status, neither.code) == (400, "InvalidRequest")


@pytest.mark.parametrize(
    ("settings", "acl", "code"),
    [
        ({}, "public-read", "AccessControlListNotSupported"),
        ({}, "authenticated-read", "AccessControlListNotSupported"),
        ({}, "public-read-write", "AccessControlListNotSupported"),
        ({"ownership": ""}, "public-read", "AccessDenied"),
        ({"ownership": ""}, "public-read-write", "AccessDenied"),
        ({"ownership": "", "public_access": None}, "log-delivery-write", "NotImplemented"),
        ({"ownership": "", "public_access": None}, "no-such-list", "InvalidArgument"),
        ({}, "private", ""),
        ({}, "bucket-owner-full-control", ""),
        ({}, "", ""),
    ],
)
def test_a_list_that_the_bucket_refuses_is_stored_nowhere(
    site: FrontDoorSite, settings: Any, acl: str, code: str
) -> None:
    name = f"refusing-{next(numbers)}"
    closed = msgspec.structs.replace(BucketSettings(), **settings)
    site.run(site.store.create_bucket(name, "alice", settings=closed))
    site.request("PUT", f"/{name}/there", body=b"data")
    wanted = {"x-amz-acl": acl}
    before = site.store.buckets[name]
    for method, path, query in (
        ("PUT", f"/{name}/new", ""),
        ("POST", f"/{name}/new", "uploads"),
        ("PUT", f"/{name}/there", "acl"),
        ("PUT", f"/{name}", "acl"),
    ):
        answer = site.request(method, path, query, headers=wanted)
        if code:
            assert answer.code == code
        elif acl or query != "acl":
            assert answer.status == 200
    source = {"x-amz-copy-source": f"{name}/there", **wanted}
    copied = site.request("PUT", f"/{name}/copy", headers=source)
    assert (copied.code if copied.status != 200 else "") == code
    assert site.store.buckets[name] == before
    assert site.keys(name) == ([b"there"] if code else [b"copy", b"new", b"there"])


def test_a_new_bucket_is_closed(site: FrontDoorSite, s3: S3Client) -> None:
    name = f"new-{site.all_through_aiohttp}".lower()
    s3.create_bucket(Bucket=name)
    block = s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
    assert block == {
        "BlockPublicAcls": True,
        "IgnorePublicAcls": True,
        "BlockPublicPolicy": True,
        "RestrictPublicBuckets": True,
    }
    controls = s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]
    assert controls == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert s3.get_bucket_policy_status(Bucket=name)["PolicyStatus"] == {"IsPublic": False}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-amz-acl": "public-read"}, "InvalidBucketAclWithObjectOwnership"),
        (
            {"x-amz-acl": "public-read", "x-amz-object-ownership": "ObjectWriter"},
            "InvalidBucketAclWithBlockPublicAccessError",
        ),
        ({"x-amz-object-ownership": "Nobody"}, "InvalidArgument"),
        ({"x-amz-object-ownership": "BucketOwnerPreferred"}, ""),
        ({"x-amz-acl": "private"}, ""),
    ],
)
def test_a_bucket_is_made_as_it_may_be_or_not_at_all(
    site: FrontDoorSite, headers: dict[str, str], code: str
) -> None:
    name = f"made-{next(numbers)}"
    answer = site.request("PUT", f"/{name}", headers=headers)
    assert (answer.code if answer.body else "") == code
    assert (name in site.store.buckets) == (not code)
    if not code:
        wanted = headers.get("x-amz-object-ownership", "BucketOwnerEnforced")
        assert site.store.buckets[name].ownership == wanted
        assert site.store.buckets[name].public_access == ALL_BLOCKED


def test_blocking_hides_what_stands_and_lifting_it_shows_it_again(
    site: FrontDoorSite, s3: S3Client, opened: str
) -> None:
    s3.put_bucket_acl(Bucket=opened, ACL="public-read")
    s3.put_object(Bucket=opened, Key="key", Body=b"data", ACL="public-read")
    assert s3.get_bucket_policy_status(Bucket=opened)["PolicyStatus"]["IsPublic"]
    s3.put_public_access_block(
        Bucket=opened, PublicAccessBlockConfiguration={"IgnorePublicAcls": True}
    )
    assert not is_read_by_anybody(site, opened, "key")
    assert site.request("GET", f"/{opened}", credentials=BOB).status == 403
    assert s3.get_bucket_acl(Bucket=opened)["Grants"] == [FULL]
    assert s3.get_object_acl(Bucket=opened, Key="key")["Grants"] == [FULL]
    assert not s3.get_bucket_policy_status(Bucket=opened)["PolicyStatus"]["IsPublic"]
    s3.delete_public_access_block(Bucket=opened)
    assert code_of(s3.get_public_access_block, Bucket=opened) == (
        "NoSuchPublicAccessBlockConfiguration"
    )
    assert is_read_by_anybody(site, opened, "key")
    assert s3.get_bucket_acl(Bucket=opened)["Grants"] == GRANTS["public-read"]


def test_ownership_is_enforced_only_where_no_list_of_the_bucket_contradicts_it(
    site: FrontDoorSite, s3: S3Client, opened: str
) -> None:
    assert code_of(s3.get_bucket_ownership_controls, Bucket=opened) == (
        "OwnershipControlsNotFoundError"
    )
    enforced: Any = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    s3.put_object(Bucket=opened, Key="key", Body=b"data", ACL="public-read")
    s3.put_bucket_acl(Bucket=opened, ACL="public-read")
    change = {"Bucket": opened, "OwnershipControls": enforced}
    refused = code_of(s3.put_bucket_ownership_controls, **change)
    assert refused == "InvalidBucketAclWithObjectOwnership"
    s3.put_bucket_acl(Bucket=opened, ACL="private")
    s3.put_bucket_ownership_controls(Bucket=opened, OwnershipControls=enforced)
    assert not is_read_by_anybody(site, opened, "key")
    s3.delete_bucket_ownership_controls(Bucket=opened)
    s3.delete_bucket_ownership_controls(Bucket=opened)
    assert is_read_by_anybody(site, opened, "key")


def test_a_cluster_that_is_being_upgraded_takes_no_list_that_it_would_lose(
    site: FrontDoorSite, opened: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.request("PUT", f"/{opened}/key", body=b"data")
    monkeypatch.setattr(type(site.store), "keeps_extras", False)
    public, private = {"x-amz-acl": "public-read"}, {"x-amz-acl": "private"}
    for path, query in ((f"/{opened}/new", ""), (f"/{opened}/key", "acl")):
        answer = site.request("PUT", path, query, headers=public)
        assert (answer.status, answer.code) == (503, "ServiceUnavailable")
        assert site.request("PUT", path, query, headers=private).status == 200


def test_tags_of_a_bucket_are_kept(s3: S3Client, bucket: str) -> None:
    assert code_of(s3.get_bucket_tagging, Bucket=bucket) == "NoSuchTagSet"
    tags: Any = [{"Key": "team", "Value": "a+b"}, {"Key": "ü", "Value": ""}]
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == tags
    s3.delete_bucket_tagging(Bucket=bucket)
    assert code_of(s3.get_bucket_tagging, Bucket=bucket) == "NoSuchTagSet"


@pytest.mark.parametrize(
    "tags",
    [
        [("a", "1"), ("a", "2")],
        [("k" * 129, "1")],
        [("a", "v" * 257)],
        [("aws:a", "1")],
        [(str(number), "") for number in range(51)],
    ],
)
def test_tags_that_s3_does_not_allow_are_refused(
    s3: S3Client, bucket: str, tags: list[tuple[str, str]]
) -> None:
    given: Any = {"TagSet": [{"Key": key, "Value": value} for key, value in tags]}
    assert code_of(s3.put_bucket_tagging, Bucket=bucket, Tagging=given) == "InvalidTag"


@pytest.mark.parametrize("query", ["tagging", "cors", "ownershipControls", "publicAccessBlock"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no",
        b"<a/>",
        b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><Tagging>&b;</Tagging>",
        b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value><More/></Tag></TagSet></Tagging>",
        b"<CORSConfiguration/>",
        (
            b"<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin></CORSRule>"
            b"</CORSConfiguration>"
        ),
        (
            b"<OwnershipControls><Rule><ObjectOwnership>Nobody</ObjectOwnership></Rule>"
            b"</OwnershipControls>"
        ),
        (
            b"<PublicAccessBlockConfiguration><BlockPublicAcls>maybe</BlockPublicAcls>"
            b"</PublicAccessBlockConfiguration>"
        ),
        b"<PublicAccessBlockConfiguration><Block/></PublicAccessBlockConfiguration>",
        b"<Tagging>" + b"<a>" * 9 + b"</a>" * 9 + b"</Tagging>",
        b"<Tagging><TagSet>" + b"<Tag/>" * 5000 + b"</TagSet></Tagging>",
        (  # Right, but for its size.
            b"<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin>"
            b"<AllowedMethod>GET</AllowedMethod></CORSRule>"
            + b" " * 70_000
            + b"</CORSConfiguration>"
        ),
    ],
)
def test_a_document_that_is_not_the_one_asked_for_is_refused(
    site: FrontDoorSite, bucket: str, query: str, body: bytes
) -> None:
    before = site.store.buckets[bucket]
    answer = site.request("PUT", f"/{bucket}", query, body=body)
    assert (answer.status, answer.code) == (400, "MalformedXML")
    assert site.store.buckets[bucket] == before
