"""Grants: what others may do with a bucket and what they make in it, asked for in every way."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import msgspec
import pytest
from tests.unit.s3.front_door_site import ALICE, BOB, CAROL, CLUSTER, FrontDoorSite, RawAnswer
from tests.unit.s3.sharing.posted_form import FORM, multipart, signed_fields
from tests.unit.s3.sharing.test_access_lists import ALL_USERS, MEMBERS, code_of, is_read_by_anybody

from octad.client.s3.owners import canonical_id
from octad.client.s3.sigv4 import Credentials
from octad.coordinator.schema.bucket_settings import OPEN, PublicAccessBlock
from octad.sharding.limits import INLINE_BYTES_MAX
from octad.storage_node.index.rows import ObjectExtras
from octad.storage_node.shards.object_store import Bucket

ALICE_ID, BOB_ID = canonical_id(CLUSTER, "alice"), canonical_id(CLUSTER, "bob")
ALL = [(BOB_ID, "FULL_CONTROL")]
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def bob(site: FrontDoorSite) -> Any:
    return site.client(BOB)


@pytest.fixture(scope="module")
def alice(site: FrontDoorSite) -> Any:
    return site.client()


def opened(site: FrontDoorSite, acl: str = "private", **settings: Any) -> str:
    """A bucket of alice's where access lists count and nothing is blocked."""
    name = f"granting-{next(numbers)}"
    asked = msgspec.structs.replace(OPEN, acl=acl, **settings)
    site.run(site.store.create_bucket(name, "alice", settings=asked))
    return name


def listed(answer: Any) -> list[tuple[str, str]]:
    """(who, permission) of an answer of boto3's."""
    return [
        (grant["Grantee"].get("ID") or grant["Grantee"]["URI"], grant["Permission"])
        for grant in answer["Grants"]
    ]


def kept(site: FrontDoorSite, bucket: str, key: str) -> str:
    """The list in an object's row."""
    row = site.store.objects[site.store.buckets[bucket].id, key.encode()].row
    return row.extras.acl if row.extras else ""


def test_grants_in_headers_are_the_whole_list(site: FrontDoorSite, alice: Any) -> None:
    name = f"granting-{next(numbers)}"
    grants = {
        "GrantRead": f'id="{BOB_ID}",uri={ALL_USERS}',
        "GrantWrite": f"id={BOB_ID}",
        "GrantReadACP": f' uri="{MEMBERS}" , id={ALICE_ID}',
        "GrantWriteACP": f"id={BOB_ID}",
        "GrantFullControl": f"id={BOB_ID}, id={BOB_ID}",
    }
    expected = [
        (BOB_ID, "READ"),
        (ALL_USERS, "READ"),
        (BOB_ID, "WRITE"),
        (MEMBERS, "READ_ACP"),
        (ALICE_ID, "READ_ACP"),
        (BOB_ID, "WRITE_ACP"),
        (BOB_ID, "FULL_CONTROL"),
    ]
    site.run(site.store.create_bucket(name, "alice", settings=OPEN))
    alice.put_bucket_acl(Bucket=name, **grants)
    assert listed(alice.get_bucket_acl(Bucket=name)) == expected
    del grants["GrantWrite"], expected[2]
    part = {"Bucket": name, "Key": "parts"}
    alice.put_object(Bucket=name, Key="put", Body=b"data", **grants)
    alice.copy_object(Bucket=name, Key="copy", CopySource=f"{name}/put", **grants)
    alice.put_object(Bucket=name, Key="changed", Body=b"data")
    alice.put_object_acl(Bucket=name, Key="changed", **grants)
    upload = alice.create_multipart_upload(**part, **grants)["UploadId"]
    etag = alice.upload_part(**part, UploadId=upload, PartNumber=1, Body=b"data")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    alice.complete_multipart_upload(**part, UploadId=upload, MultipartUpload=parts)
    for key in ("put", "copy", "changed", "parts"):
        answer = alice.get_object_acl(Bucket=name, Key=key)
        assert listed(answer) == expected
        assert answer["Owner"]["ID"] == ALICE_ID


def test_a_bucket_is_made_with_grants_where_its_settings_let_it(site: FrontDoorSite) -> None:
    lists = {"x-amz-object-ownership": "ObjectWriter", "x-amz-grant-read": f"id={BOB_ID}"}
    everybody = {**lists, "x-amz-grant-write": f"uri={ALL_USERS}"}
    for headers, code in (
        (lists, ""),
        ({**lists, "x-amz-object-ownership": ""}, "InvalidBucketAclWithObjectOwnership"),
        (everybody, "InvalidBucketAclWithBlockPublicAccessError"),
        ({**lists, "x-amz-acl": "private"}, "InvalidRequest"),
        ({**lists, "x-amz-grant-read": "id=nobody"}, "InvalidArgument"),
        ({**lists, "x-amz-grant-read": f"name={BOB_ID}"}, "InvalidArgument"),
        ({**lists, "x-amz-grant-read": BOB_ID}, "InvalidArgument"),
    ):
        name = f"granting-{next(numbers)}"
        answer = site.request("PUT", f"/{name}", headers=headers)
        assert (answer.code if answer.body else "") == code
        assert (name in site.store.buckets) == (not code)
        if not code:
            assert site.request("GET", f"/{name}", credentials=BOB).status == 200
            assert site.request("GET", f"/{name}", credentials=CAROL).status == 403


def test_what_is_blocked_is_the_public_and_no_named_owner(site: FrontDoorSite) -> None:
    name = opened(site, public_access=PublicAccessBlock(block_acls=True))
    for grantee, status in (
        (f"id={BOB_ID}", 200),
        (f"uri={ALL_USERS}", 403),
        (f"uri={MEMBERS}", 403),
    ):
        grant = {"x-amz-grant-read": f"id={BOB_ID},{grantee}"}
        for path, query in ((f"/{name}", "acl"), (f"/{name}/key", ""), (f"/{name}/key", "acl")):
            assert site.request("PUT", path, query, headers=grant).status == status
    assert site.store.buckets[name].acl == "grants:bob=READ"


def test_an_owner_may_do_all_whatever_the_list_says_of_him(site: FrontDoorSite, alice: Any) -> None:
    name = opened(site)
    alice.put_object(Bucket=name, Key="key", Body=b"data")
    nobody: Any = {"Owner": {"ID": ALICE_ID}, "Grants": []}
    alice.put_bucket_acl(Bucket=name, AccessControlPolicy=nobody)
    alice.put_object_acl(Bucket=name, Key="key", AccessControlPolicy=nobody)
    assert listed(alice.get_bucket_acl(Bucket=name)) == []
    assert listed(alice.get_object_acl(Bucket=name, Key="key")) == []
    assert alice.get_object(Bucket=name, Key="key")["Body"].read() == b"data"
    enforced: Any = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    change = {"Bucket": name, "OwnershipControls": enforced}
    assert code_of(alice.put_bucket_ownership_controls, **change) == (
        "InvalidBucketAclWithObjectOwnership"
    )
    alice.put_bucket_acl(Bucket=name, ACL="private")
    alice.put_bucket_ownership_controls(**change)


@pytest.mark.parametrize(
    ("acl", "ownership", "expected"),
    [
        ("", "", ALL),
        ("private", "ObjectWriter", ALL),
        ("public-read", "", [(ALL_USERS, "READ"), *ALL]),
        ("bucket-owner-read", "", [*ALL, (ALICE_ID, "READ")]),
        ("bucket-owner-full-control", "", [*ALL, (ALICE_ID, "FULL_CONTROL")]),
        ("bucket-owner-full-control", "ObjectWriter", [*ALL, (ALICE_ID, "FULL_CONTROL")]),
        ("bucket-owner-full-control", "BucketOwnerPreferred", [(ALICE_ID, "FULL_CONTROL")]),
        ("", "BucketOwnerPreferred", ALL),
    ],
)
def test_who_writes_into_another_owners_bucket_has_what_he_wrote(
    site: FrontDoorSite, alice: Any, bob: Any, acl: str, ownership: str, expected: Any
) -> None:
    name = opened(site, "grants:bob=WRITE", ownership=ownership)
    asked: Any = {"ACL": acl} if acl else {}
    part = {"Bucket": name, "Key": "parts"}
    bob.put_object(Bucket=name, Key="put", Body=b"data", **asked)
    upload = bob.create_multipart_upload(**part, **asked)["UploadId"]
    etag = bob.upload_part(**part, UploadId=upload, PartNumber=1, Body=b"data")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    bob.complete_multipart_upload(**part, UploadId=upload, MultipartUpload=parts)
    for key in ("put", "parts"):
        answer = alice.get_object_acl(Bucket=name, Key=key)
        assert listed(answer) == expected
        assert answer["Owner"]["ID"] == ALICE_ID
        assert alice.get_object(Bucket=name, Key=key)["Body"].read() == b"data"
        if ALL[0] in expected:
            assert bob.get_object(Bucket=name, Key=key)["Body"].read() == b"data"
            assert listed(bob.get_object_acl(Bucket=name, Key=key)) == expected
        else:
            assert code_of(bob.get_object, Bucket=name, Key=key) == "AccessDenied"
    assert [each["Key"] for each in alice.list_objects_v2(Bucket=name)["Contents"]] == [
        "parts",
        "put",
    ]


def test_a_canned_list_leaves_who_wrote_an_object_his_control_of_it(
    site: FrontDoorSite, alice: Any, bob: Any
) -> None:
    name = opened(site, "grants:bob=WRITE,carol=WRITE")
    bob.put_object(Bucket=name, Key="key", Body=b"data")
    bob.put_object_acl(Bucket=name, Key="key", ACL="public-read")
    assert listed(bob.get_object_acl(Bucket=name, Key="key")) == [(ALL_USERS, "READ"), *ALL]
    alice.put_object_acl(Bucket=name, Key="key", ACL="private")
    assert kept(site, name, "key") == ""
    assert code_of(bob.get_object_acl, Bucket=name, Key="key") == "AccessDenied"
    grant = {"GrantWriteACP": f"id={BOB_ID}"}
    alice.put_object_acl(Bucket=name, Key="key", **grant)
    bob.put_object_acl(Bucket=name, Key="key", ACL="public-read")
    assert kept(site, name, "key") == "public-read", "his right to change it was no full control"


def test_by_a_list_nobody_changes_that_of_an_object_put_there_meanwhile(
    site: FrontDoorSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = opened(site, "grants:bob=WRITE")
    site.request("PUT", f"/{name}/key", body=b"bob's", credentials=BOB)
    change_extras = type(site.store).change_extras

    async def overtaken(store: Any, bucket: Bucket, key: bytes, *of: Any) -> Any:
        row = msgspec.structs.replace(store.objects[bucket.id, key].row, extras=None)
        await store.put_object(bucket, key, row, b"alice", bytes([7, next(numbers)] * 8))
        return await change_extras(store, bucket, key, *of)

    monkeypatch.setattr(type(site.store), "change_extras", overtaken)
    public = {"x-amz-acl": "public-read"}
    answer = site.request("PUT", f"/{name}/key", "acl", headers=public, credentials=BOB)
    assert (answer.status, answer.code) == (409, "OperationAborted")
    assert site.request("GET", f"/{name}/key").body == b"alice"
    assert not is_read_by_anybody(site, name, "key")
    assert site.request("PUT", f"/{name}/key", "acl", headers=public).status == 200
    assert is_read_by_anybody(site, name, "key")


def test_who_was_shut_out_meanwhile_changes_no_list_of_the_bucket(
    site: FrontDoorSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = opened(site, "grants:bob=WRITE_ACP")
    stale = site.store.buckets[name]
    site.request("PUT", f"/{name}", "acl", headers={"x-amz-acl": "private"})

    async def known(_: object, __: str) -> Bucket:
        return stale

    monkeypatch.setattr(type(site.store), "get_bucket", known)
    again = {"x-amz-grant-full-control": f"id={BOB_ID}"}
    answer = site.request("PUT", f"/{name}", "acl", headers=again, credentials=BOB)
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert site.store.buckets[name].acl == "private"


def test_an_upload_is_its_initiators_and_the_bucket_owners(
    site: FrontDoorSite, alice: Any, bob: Any
) -> None:
    name = opened(site, "grants:bob=WRITE,bob=READ,carol=WRITE")
    carol: Any = site.client(CAROL)
    part = {"Bucket": name, "Key": "key"}
    upload = bob.create_multipart_upload(**part)["UploadId"]
    alices = alice.create_multipart_upload(Bucket=name, Key="alices")["UploadId"]
    for listing in (alice, bob):
        shown = listing.list_multipart_uploads(Bucket=name)["Uploads"]
        assert [each["Initiator"]["ID"] for each in shown] == [ALICE_ID, BOB_ID]
    etag = bob.upload_part(**part, UploadId=upload, PartNumber=1, Body=b"data")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    before = dict(site.store.uploads)
    for client, of in (
        (carol, {**part, "UploadId": upload}),
        (bob, {"Bucket": name, "Key": "alices", "UploadId": alices}),
    ):
        for work, more in (
            (client.upload_part, {"PartNumber": 1, "Body": b"other"}),
            (client.list_parts, {}),
            (client.complete_multipart_upload, {"MultipartUpload": parts}),
            (client.abort_multipart_upload, {}),
        ):
            assert code_of(work, **of, **more) == "AccessDenied"
    assert site.store.uploads == before
    assert alice.list_parts(**part, UploadId=upload)["Initiator"]["ID"] == BOB_ID
    for _ in range(2):  # A retry is the same success.
        bob.complete_multipart_upload(**part, UploadId=upload, MultipartUpload=parts)
    assert code_of(carol.complete_multipart_upload, **part, UploadId=upload) != ""
    alice.abort_multipart_upload(Bucket=name, Key="alices", UploadId=alices)


def test_a_writer_does_not_append_to_what_he_may_not_read(site: FrontDoorSite) -> None:
    name = opened(site, "public-read-write")
    site.request("PUT", f"/{name}/key", body=b"data")
    append = {"x-amz-write-offset-bytes": "4"}
    for asker in (BOB, None):
        answer = site.request("PUT", f"/{name}/key", headers=append, body=b"x", credentials=asker)
        assert (answer.status, answer.code) == (403, "AccessDenied")
    assert site.request("PUT", f"/{name}/key", headers=append, body=b"x").status == 200


def anonymous(site: FrontDoorSite, path: str, body: bytes, **headers: str) -> RawAnswer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return site.request("PUT", path, headers=named, body=body, credentials=None)


@pytest.mark.parametrize("size", [4, INLINE_BYTES_MAX + 1])
def test_what_nobody_signed_is_the_bucket_owners(site: FrontDoorSite, size: int) -> None:
    name = opened(site, "public-read-write")
    body = bytes(size)
    assert anonymous(site, f"/{name}/key", body).status == 200
    assert kept(site, name, "key") == ""
    assert site.request("GET", f"/{name}/key").body == body
    assert not is_read_by_anybody(site, name, "key")
    for acl, is_open in (("public-read", True), ("bucket-owner-full-control", False)):
        assert anonymous(site, f"/{name}/key", body, x_amz_acl=acl).status == 200
        assert is_read_by_anybody(site, name, "key") == is_open
    assert site.request("DELETE", f"/{name}/key", credentials=None).status == 204
    assert site.keys(name) == []


def test_a_body_that_nobody_signed_is_what_it_says(site: FrontDoorSite) -> None:
    name = opened(site, "public-read-write")
    path = f"/{name}/key"
    digest = hashlib.sha256(b"data").hexdigest()
    assert anonymous(site, path, b"other", x_amz_content_sha256=digest).code == (
        "XAmzContentSHA256Mismatch"
    )
    for kind in (
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
        "nonsense",
    ):
        answer = anonymous(
            site,
            path,
            b"4\r\ndata\r\n0\r\n\r\n",
            x_amz_content_sha256=kind,
            x_amz_decoded_content_length="4",
        )
        assert (answer.status, answer.code) == (403, "AccessDenied")
    assert site.keys(name) == []
    chunks = b"4\r\ndata\r\n0\r\nx-amz-checksum-crc32:rfPzYw==\r\n\r\n"
    trailer = {
        "x_amz_content_sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x_amz_decoded_content_length": "4",
        "x_amz_trailer": "x-amz-checksum-crc32",
    }
    assert anonymous(site, path, chunks, **trailer).status == 200
    assert site.request("GET", path).body == b"data"
    assert anonymous(site, path, chunks.replace(b"data", b"date"), **trailer).code == "BadDigest"
    assert anonymous(site, path, b"data", x_amz_content_sha256=digest).status == 200


def posted(
    site: FrontDoorSite, bucket: str, fields: dict[str, str], by: Credentials | None
) -> RawAnswer:
    if by is not None:
        fields = signed_fields(bucket, fields, by, site.region)
    return site.request(
        "POST", f"/{bucket}", headers=FORM, body=multipart(fields, b"data"), credentials=None
    )


def test_a_form_that_nobody_signed_is_for_buckets_that_everybody_writes_to(
    site: FrontDoorSite,
) -> None:
    name, closed = opened(site, "public-read-write"), opened(site, "public-read")
    fields = {"key": "key", "acl": "public-read", "success_action_status": "201"}
    assert posted(site, closed, fields, None).code == "AccessDenied"
    assert posted(site, closed, fields, BOB).code == "AccessDenied"
    assert posted(site, name, fields, None).status == 201
    assert is_read_by_anybody(site, name, "key")
    for added in (
        {"policy": "e30="},
        {"x-amz-signature": "0" * 64},
        {"signature": "AAAA", "AWSAccessKeyId": "A"},
        {"x-amz-credential": "a"},
        {"x-amz-security-token": "a"},
    ):
        assert posted(site, name, fields | {"key": "other"} | added, None).status in (400, 403)
    assert posted(site, name, {"key": "k", "bucket": closed}, None).code == "AccessDenied"
    assert posted(site, name, {"key": "k", "x-amz-grant-read": f"id={BOB_ID}"}, None).status == 501
    assert site.keys(name) == [b"key"]
    assert posted(site, name, {"key": "bobs"}, BOB).status == 204
    assert kept(site, name, "bobs") == "grants:bob=FULL_CONTROL"


def test_while_the_cluster_is_upgraded_others_write_nothing_that_would_lose_its_list(
    site: FrontDoorSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = opened(site, "public-read-write")
    monkeypatch.setattr(type(site.store), "keeps_extras", False)
    answer = site.request("PUT", f"/{name}/key", body=b"data", credentials=BOB)
    assert (answer.status, answer.code) == (503, "ServiceUnavailable")
    assert site.request("PUT", f"/{name}/key", body=b"data", credentials=ALICE).status == 200
    assert anonymous(site, f"/{name}/key", b"data").status == 200


def test_quotas_hold_for_others_who_write(site: FrontDoorSite) -> None:
    name = opened(site, "public-read-write")
    full = msgspec.structs.replace(site.store.buckets[name], quota_bytes=3)
    site.store.buckets[name] = full
    for asker in (BOB, None):
        answer = site.request("PUT", f"/{name}/key", body=b"data", credentials=asker)
        assert answer.code == "QuotaExceeded"


def test_tags_of_an_object_stay_its_bucket_owners(site: FrontDoorSite) -> None:
    name = opened(site, "grants:bob=FULL_CONTROL")
    tagged = {"x-amz-tagging": "a=b"}
    assert site.request("PUT", f"/{name}/key", headers=tagged, credentials=BOB).status == 200
    row = site.store.objects[site.store.buckets[name].id, b"key"].row
    assert row.extras == ObjectExtras({"a": "b"}, "grants:bob=FULL_CONTROL")
    assert site.request("GET", f"/{name}/key", "tagging", credentials=BOB).status == 403
    assert site.request("GET", f"/{name}/key", "tagging").status == 200
    assert "x-amz-tagging-count" not in site.request("GET", f"/{name}/key", credentials=BOB).headers
