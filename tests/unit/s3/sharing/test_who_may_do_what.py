"""Every operation, asked for by a bucket's owner, by another owner and by nobody."""

from __future__ import annotations

import hashlib
import itertools
from base64 import b64encode
from typing import Any

import msgspec
import pytest
from tests.unit.s3.front_door_site import ALICE, BOB, FrontDoorSite, RawAnswer
from tests.unit.s3.sharing.posted_form import FORM, multipart, signed_fields

from octad.client.s3.access_lists import ANONYMOUS
from octad.client.s3.sigv4 import Credentials
from octad.coordinator.schema.bucket_settings import ALL_BLOCKED, OPEN, BucketSettings
from octad.storage_node.index.rows import ObjectExtras, ObjectRow
from octad.storage_node.s3.protocol.access import may, may_ask
from octad.storage_node.s3.protocol.requests.s3_operations import S3Operation
from octad.storage_node.shards.object_store import Unavailable

Op = S3Operation
UPLOAD = bytes(16).hex()
# (method, what follows the bucket's name, headers, body) of a request for each operation.
REQUESTS: dict[S3Operation, tuple[str, str, dict[str, str], bytes]] = {
    Op.LIST_BUCKETS: ("GET", "", {}, b""),
    Op.CREATE_BUCKET: ("PUT", "", {}, b""),
    Op.HEAD_BUCKET: ("HEAD", "", {}, b""),
    Op.DELETE_BUCKET: ("DELETE", "", {}, b""),
    Op.GET_BUCKET_LOCATION: ("GET", "?location", {}, b""),
    Op.LIST_OBJECTS: ("GET", "", {}, b""),
    Op.LIST_OBJECTS_V2: ("GET", "?list-type=2", {}, b""),
    Op.LIST_OBJECT_VERSIONS: ("GET", "?versions", {}, b""),
    Op.LIST_MULTIPART_UPLOADS: ("GET", "?uploads", {}, b""),
    Op.DELETE_OBJECTS: ("POST", "?delete", {}, b"<Delete><Object><Key>key</Key></Object></Delete>"),
    Op.GET_BUCKET_VERSIONING: ("GET", "?versioning", {}, b""),
    Op.GET_BUCKET_ACL: ("GET", "?acl", {}, b""),
    Op.PUT_BUCKET_ACL: ("PUT", "?acl", {"x-amz-acl": "public-read"}, b""),
    Op.GET_BUCKET_OWNERSHIP_CONTROLS: ("GET", "?ownershipControls", {}, b""),
    Op.PUT_BUCKET_OWNERSHIP_CONTROLS: (
        "PUT",
        "?ownershipControls",
        {},
        (
            b"<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule>"
            b"</OwnershipControls>"
        ),
    ),
    Op.DELETE_BUCKET_OWNERSHIP_CONTROLS: ("DELETE", "?ownershipControls", {}, b""),
    Op.GET_PUBLIC_ACCESS_BLOCK: ("GET", "?publicAccessBlock", {}, b""),
    Op.PUT_PUBLIC_ACCESS_BLOCK: (
        "PUT",
        "?publicAccessBlock",
        {},
        b"<PublicAccessBlockConfiguration/>",
    ),
    Op.DELETE_PUBLIC_ACCESS_BLOCK: ("DELETE", "?publicAccessBlock", {}, b""),
    Op.GET_BUCKET_POLICY: ("GET", "?policy", {}, b""),
    Op.GET_BUCKET_POLICY_STATUS: ("GET", "?policyStatus", {}, b""),
    Op.GET_BUCKET_TAGGING: ("GET", "?tagging", {}, b""),
    Op.PUT_BUCKET_TAGGING: ("PUT", "?tagging", {}, b"<Tagging><TagSet/></Tagging>"),
    Op.DELETE_BUCKET_TAGGING: ("DELETE", "?tagging", {}, b""),
    Op.GET_OBJECT_LOCK_CONFIGURATION: ("GET", "?object-lock", {}, b""),
    Op.PUT_OBJECT_LOCK_CONFIGURATION: ("PUT", "?object-lock", {}, b"<ObjectLockConfiguration/>"),
    Op.GET_BUCKET_CORS: ("GET", "?cors", {}, b""),
    Op.PUT_BUCKET_CORS: (
        "PUT",
        "?cors",
        {},
        (
            b"<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin>"
            b"<AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
        ),
    ),
    Op.DELETE_BUCKET_CORS: ("DELETE", "?cors", {}, b""),
    Op.GET_BUCKET_ENCRYPTION: ("GET", "?encryption", {}, b""),
    Op.GET_BUCKET_LIFECYCLE: ("GET", "?lifecycle", {}, b""),
    Op.PUT_OBJECT: ("PUT", "/key", {}, b"other"),
    Op.POST_OBJECT: ("POST", "", FORM, b""),
    Op.COPY_OBJECT: ("PUT", "/copy", {"x-amz-copy-source": "BUCKET/key"}, b""),
    Op.GET_OBJECT: ("GET", "/key", {}, b""),
    Op.HEAD_OBJECT: ("HEAD", "/key", {}, b""),
    Op.DELETE_OBJECT: ("DELETE", "/key", {}, b""),
    Op.GET_OBJECT_ACL: ("GET", "/key?acl", {}, b""),
    Op.PUT_OBJECT_ACL: ("PUT", "/key?acl", {"x-amz-acl": "public-read"}, b""),
    Op.GET_OBJECT_TAGGING: ("GET", "/key?tagging", {}, b""),
    Op.PUT_OBJECT_TAGGING: ("PUT", "/key?tagging", {}, b"<Tagging><TagSet/></Tagging>"),
    Op.DELETE_OBJECT_TAGGING: ("DELETE", "/key?tagging", {}, b""),
    Op.GET_OBJECT_RETENTION: ("GET", "/key?retention", {}, b""),
    Op.PUT_OBJECT_RETENTION: ("PUT", "/key?retention", {}, b"<Retention/>"),
    Op.GET_OBJECT_LEGAL_HOLD: ("GET", "/key?legal-hold", {}, b""),
    Op.PUT_OBJECT_LEGAL_HOLD: ("PUT", "/key?legal-hold", {}, b"<LegalHold/>"),
    Op.GET_OBJECT_ATTRIBUTES: (
        "GET",
        "/key?attributes",
        {"x-amz-object-attributes": "ETag"},
        b"",
    ),
    Op.CREATE_MULTIPART_UPLOAD: ("POST", "/key?uploads", {}, b""),
    Op.UPLOAD_PART: ("PUT", f"/key?partNumber=1&uploadId={UPLOAD}", {}, b"part"),
    Op.UPLOAD_PART_COPY: (
        "PUT",
        f"/key?partNumber=1&uploadId={UPLOAD}",
        {"x-amz-copy-source": "BUCKET/key"},
        b"",
    ),
    Op.LIST_PARTS: ("GET", f"/key?uploadId={UPLOAD}", {}, b""),
    Op.COMPLETE_MULTIPART_UPLOAD: (
        "POST",
        f"/key?uploadId={UPLOAD}",
        {},
        (
            b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part>"
            b"</CompleteMultipartUpload>"
        ),
    ),
    Op.ABORT_MULTIPART_UPLOAD: ("DELETE", f"/key?uploadId={UPLOAD}", {}, b""),
}
LISTINGS = {
    Op.HEAD_BUCKET,
    Op.LIST_OBJECTS,
    Op.LIST_OBJECTS_V2,
    Op.LIST_OBJECT_VERSIONS,
    Op.LIST_MULTIPART_UPLOADS,
}
READS = {Op.GET_OBJECT, Op.HEAD_OBJECT}
UPLOADS = {
    Op.CREATE_MULTIPART_UPLOAD,
    Op.UPLOAD_PART,
    Op.UPLOAD_PART_COPY,
    Op.LIST_PARTS,
    Op.COMPLETE_MULTIPART_UPLOAD,
    Op.ABORT_MULTIPART_UPLOAD,
}
NOT_ANONYMOUSLY = {Op.COPY_OBJECT, *UPLOADS}
WRITES = {
    Op.PUT_OBJECT,
    Op.POST_OBJECT,
    Op.COPY_OBJECT,
    Op.DELETE_OBJECT,
    Op.DELETE_OBJECTS,
    *UPLOADS,
}
ON_BUCKET = {
    "READ": LISTINGS,
    "WRITE": WRITES,
    "READ_ACP": {Op.GET_BUCKET_ACL},
    "WRITE_ACP": {Op.PUT_BUCKET_ACL},
    "FULL_CONTROL": LISTINGS | WRITES | {Op.GET_BUCKET_ACL, Op.PUT_BUCKET_ACL},
}
ON_OBJECT: dict[str, set[S3Operation]] = {
    "READ": READS,
    "WRITE": set(),
    "READ_ACP": {Op.GET_OBJECT_ACL},
    "WRITE_ACP": {Op.PUT_OBJECT_ACL},
    "FULL_CONTROL": READS | {Op.GET_OBJECT_ACL, Op.PUT_OBJECT_ACL},
}
OF_ONES_OWN = {Op.LIST_BUCKETS, Op.CREATE_BUCKET}  # They name no bucket of anybody else's.

PUBLIC = msgspec.structs.replace(OPEN, acl="public-read")
MEMBERS = msgspec.structs.replace(OPEN, acl="authenticated-read")
WRITABLE = msgspec.structs.replace(OPEN, acl="public-read-write")
# The bucket's settings, the object's list, and what another owner and what nobody may do then.
Case = tuple[BucketSettings, str, set[S3Operation], set[S3Operation]]
CASES: dict[str, Case] = {
    "private": (OPEN, "", set(), set()),
    "public object": (OPEN, "public-read", READS, READS),
    "public bucket": (PUBLIC, "", LISTINGS, LISTINGS),
    "both": (PUBLIC, "public-read", READS | LISTINGS, READS | LISTINGS),
    "object for members": (OPEN, "authenticated-read", READS, set()),
    "bucket for members": (MEMBERS, "", LISTINGS, set()),
    "all for writers": (
        WRITABLE,
        "public-read-write",
        READS | LISTINGS | WRITES,
        READS | LISTINGS | WRITES - NOT_ANONYMOUSLY,
    ),
    "public, ignored": (
        msgspec.structs.replace(WRITABLE, public_access=ALL_BLOCKED),
        "public-read-write",
        set(),
        set(),
    ),
    "public, enforced": (
        msgspec.structs.replace(WRITABLE, ownership="BucketOwnerEnforced"),
        "public-read-write",
        set(),
        set(),
    ),
    "bob's, and public, ignored": (
        msgspec.structs.replace(
            OPEN, acl="grants:bob=READ,*=WRITE,+=READ_ACP", public_access=ALL_BLOCKED
        ),
        "grants:bob=READ_ACP,*=READ",
        LISTINGS | {Op.GET_OBJECT_ACL},
        set(),
    ),
    "bob's, enforced": (
        msgspec.structs.replace(
            OPEN, acl="grants:bob=FULL_CONTROL", ownership="BucketOwnerEnforced"
        ),
        "grants:bob=FULL_CONTROL",
        set(),
        set(),
    ),
    "of a newer octad": (
        msgspec.structs.replace(OPEN, acl="open-to-all", ownership="Newer"),
        "open-to-all",
        set(),
        set(),
    ),
    "with grants of a newer octad": (
        msgspec.structs.replace(OPEN, acl="grants:bob=READ,*=EVERYTHING"),
        "grants:bob=READ,*=EVERYTHING",
        set(),
        set(),
    ),
}


def granted(grantee: str, permission: str) -> Case:
    """The permission, of the bucket and of the object."""
    acl = f"grants:{grantee}={permission}"
    given = ON_BUCKET[permission] | ON_OBJECT[permission]
    if permission == "WRITE":
        given = given - {Op.COPY_OBJECT}  # It reads an object, too.
    to_anybody = given - NOT_ANONYMOUSLY if grantee == "*" else set()
    return msgspec.structs.replace(OPEN, acl=acl), acl, given, to_anybody


GRANTED = {
    f"{permission} of {grantee}": granted(grantee, permission)
    for permission in ON_BUCKET
    for grantee in ("bob", "*")
}
ASKERS = {"owner": ALICE, "other": BOB, "nobody": None}
numbers = itertools.count(1)


def asked(
    site: FrontDoorSite, operation: S3Operation, bucket: str, credentials: Credentials | None
) -> RawAnswer:
    method, rest, headers, body = REQUESTS[operation]
    path, _, query = rest.partition("?")
    headers = {name: value.replace("BUCKET", bucket) for name, value in headers.items()}
    if operation is Op.LIST_BUCKETS:
        return site.request(method, "/", credentials=credentials)
    if operation is Op.CREATE_BUCKET:
        return site.request(method, f"/{bucket}-{next(numbers)}", credentials=credentials)
    if operation is Op.POST_OBJECT:
        fields = {"key": "key"}
        if credentials is not None:
            fields = signed_fields(bucket, fields, credentials, site.region)
        body, credentials = multipart(fields, b"other"), None
    if operation is Op.DELETE_OBJECTS:
        headers = {"content-md5": b64encode(hashlib.md5(body).digest()).decode()}
    return site.request(
        method, f"/{bucket}{path}", query, headers=headers, body=body, credentials=credentials
    )


def made(site: FrontDoorSite, settings: BucketSettings, acl: str) -> str:
    name = f"case-{next(numbers)}"
    bucket = site.run(site.store.create_bucket(name, "alice", settings=settings))
    row = ObjectRow(4, "e" * 32, 1_700_000_000_000, extras=ObjectExtras(acl=acl) if acl else None)
    request_id = (10_000_000 + next(numbers)).to_bytes(16, "big")
    site.run(site.store.put_object(bucket, b"key", row, b"data", request_id))
    return name


def contents(site: FrontDoorSite) -> Any:
    return dict(site.store.buckets), dict(site.store.objects), sorted(site.store.uploads)


def test_the_table_has_every_operation() -> None:
    assert REQUESTS.keys() == set(S3Operation)


@pytest.mark.parametrize("case", [*CASES, *GRANTED])
def test_only_the_owner_may_do_what_no_access_list_opens(site: FrontDoorSite, case: str) -> None:
    settings, acl, others, anybody = (CASES | GRANTED)[case]
    allowed = {"owner": set(S3Operation), "other": others | OF_ONES_OWN, "nobody": anybody}
    for operation, (asker, credentials) in itertools.product(S3Operation, ASKERS.items()):
        if asker == "owner":
            continue
        name = made(site, settings, acl)
        before = contents(site)
        answer = asked(site, operation, name, credentials)
        if operation in allowed[asker]:
            of_upload = operation in UPLOADS - {Op.CREATE_MULTIPART_UPLOAD}  # There is none.
            expected = (404,) if of_upload else (200, 204)
            assert answer.status in expected, (operation, asker, answer.body)
        else:
            assert answer.status == 403, (operation, asker)
            assert contents(site) == before, (operation, asker)
            if REQUESTS[operation][0] != "HEAD":
                assert answer.code == "AccessDenied"


@pytest.mark.parametrize("case", CASES)
def test_the_owner_may_do_everything_whatever_others_may(site: FrontDoorSite, case: str) -> None:
    settings, acl, _, _ = CASES[case]
    for operation in S3Operation:
        answer = asked(site, operation, made(site, settings, acl), ALICE)
        refused = b"AccessDenied" in answer.body
        is_of_acl = operation in (Op.PUT_BUCKET_ACL, Op.PUT_OBJECT_ACL)
        assert answer.status < 500, (operation, answer.body)
        assert (answer.status == 403) == refused
        assert not refused or is_of_acl, operation  # Blocked, not denied to him.


@pytest.mark.parametrize("permission", ON_BUCKET)
@pytest.mark.parametrize("grantee", ["bob", "carol", "+", "*"])
def test_a_permission_opens_what_it_is_for_and_on_what_it_is_given(
    grantee: str, permission: str
) -> None:
    acl = f"grants:{grantee}={permission}"
    on_bucket = msgspec.structs.replace(OPEN, acl=acl)
    for asker, is_meant in (("bob", grantee != "carol"), (ANONYMOUS, grantee == "*")):
        given = ON_BUCKET[permission] if is_meant else set()
        if asker == ANONYMOUS:
            given = given - NOT_ANONYMOUSLY
        for operation in S3Operation:
            on_object = operation in ON_OBJECT["FULL_CONTROL"]
            expected = None if on_object else operation in given
            assert may_ask(operation, on_bucket, "alice", asker) is expected
            assert may_ask(operation, OPEN, "alice", asker) is (None if on_object else False)
            assert may_ask(operation, OPEN, "alice", "alice") is True
        for wanted in ("READ", "WRITE", "READ_ACP", "WRITE_ACP"):
            has = is_meant and permission in (wanted, "FULL_CONTROL")
            assert may(OPEN, acl, "alice", asker, wanted) is has
            assert may(OPEN, "grants:", "alice", "alice", wanted)


def test_nobody_learns_which_buckets_and_keys_there_are(site: FrontDoorSite) -> None:
    name, public = made(site, OPEN, ""), made(site, PUBLIC, "")

    def answer(path: str, query: str = "") -> tuple[int, str, str]:
        found = site.request("GET", path, query, credentials=None)
        return found.status, found.code, found.element("Message")

    denied = (403, "AccessDenied", "Access Denied")
    for path in (f"/{name}/key", f"/{name}/absent", f"/{name}", "/no-such-bucket", "/Bad_Name/k"):
        assert answer(path) == denied
    assert answer(f"/{public}/key") == denied
    assert answer(f"/{public}/absent")[:2] == (404, "NoSuchKey")  # Who may list knows it anyway.
    assert answer(f"/{name}/key", "torrent") == denied


def test_a_copy_reads_only_what_its_sender_may_read(site: FrontDoorSite) -> None:
    site.run(site.store.create_bucket(target := f"bobs-{next(numbers)}", "bob"))
    for acl, status in (("", 403), ("public-read", 200), ("authenticated-read", 200)):
        source = {"x-amz-copy-source": f"{made(site, OPEN, acl)}/key"}
        copied = site.request("PUT", f"/{target}/copy", headers=source, credentials=BOB)
        assert copied.status == status
        absent = {"x-amz-copy-source": f"{made(site, OPEN, acl)}/absent"}
        assert site.request("PUT", f"/{target}/c", headers=absent, credentials=BOB).status == 403
    copy = site.store.objects[site.store.buckets[target].id, b"copy"]
    assert copy.row.extras is None  # A copy is its own: it takes no access list from its source.


def test_an_answer_that_no_one_looked_at_is_never_sent(
    site: FrontDoorSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    from octad.storage_node.s3.handlers.request_context import RequestContext

    name = made(site, OPEN, "")
    monkeypatch.setattr(RequestContext, "readable", lambda _, __, row: row)
    assert site.request("GET", f"/{name}/key", credentials=None).status == 403
    assert site.request("GET", f"/{name}/key", credentials=BOB).status == 403
    assert site.request("GET", f"/{name}/key").status == 200


@pytest.mark.parametrize(
    "query",
    ["X-Amz-Signature=1", "x-amz-algorithm=a", "AWSAccessKeyId=a", "Signature=a", "%58-Amz-Date=1"],
)
def test_credentials_that_are_no_good_are_not_passed_over_for_a_public_object(
    site: FrontDoorSite, query: str
) -> None:
    name = made(site, OPEN, "public-read")
    assert site.request("GET", f"/{name}/key", credentials=None).body == b"data"
    assert site.request("GET", f"/{name}/key", query, credentials=None).status in (400, 403)
    header = {"authorization": "Basic YTpi"}
    answer = site.request("GET", f"/{name}/key", credentials=None, unsigned_headers=header)
    assert answer.status in (400, 403)


def test_tags_are_told_to_the_owner_alone(site: FrontDoorSite) -> None:
    name = made(site, OPEN, "public-read")
    site.request(
        "PUT", f"/{name}/key", headers={"x-amz-acl": "public-read", "x-amz-tagging": "a=b"}
    )
    assert site.request("HEAD", f"/{name}/key").headers["x-amz-tagging-count"] == "1"
    for asker in (BOB, None):
        headers = site.request("GET", f"/{name}/key", credentials=asker).headers
        assert "x-amz-tagging-count" not in headers
    site.run(site.store.create_bucket(target := f"bobs-{next(numbers)}", "bob"))
    source = {"x-amz-copy-source": f"{name}/key"}
    site.request("PUT", f"/{target}/copy", headers=source, credentials=BOB)
    copy = site.store.objects[site.store.buckets[target].id, b"copy"]
    assert copy.row.extras is None


def test_nobody_chooses_the_headers_of_an_answer_to_nobody(site: FrontDoorSite) -> None:
    name = made(site, OPEN, "public-read")
    query = "response-content-type=text/html"
    answer = site.request("GET", f"/{name}/key", query, credentials=None)
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert site.request("GET", f"/{name}/key", "utm_source=mail", credentials=None).status == 200


def test_strangers_write_no_lines_into_the_log(
    site: FrontDoorSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(_: object, name: str) -> None:
        raise Unavailable(name)

    monkeypatch.setattr(type(site.store), "get_bucket", away)
    for method in ("GET", "PUT"):
        assert site.request(method, "/any-bucket/key", credentials=None).status == 503
    assert not caplog.messages
    assert site.request("GET", "/any-bucket/key").status == 503
    assert len(caplog.messages) == 1
