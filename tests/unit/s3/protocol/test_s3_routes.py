"""One operation for a request, or a refusal; nothing is ever taken for a plain GET or PUT."""

from __future__ import annotations

import botocore.session
import pytest

from octad.client.s3.errors import S3Error
from octad.storage_node.s3.protocol.requests.parameters import SUB_RESOURCES
from octad.storage_node.s3.protocol.requests.routes import route, with_hoisted_headers
from octad.storage_node.s3.protocol.requests.s3_operations import S3Operation
from octad.storage_node.s3.protocol.requests.targets import parse_query


def routed(method: str, path: str, headers: dict[str, str] | None = None) -> S3Operation:
    """The operation of a request to /bucket/key, /bucket or /."""
    path, _, query = path.partition("?")
    bucket, _, key = path[1:].partition("/")
    meant, hoisted = with_hoisted_headers(parse_query(query), headers or {})
    return route(method, bucket, key.encode(), meant, hoisted)[0]


def refusal(method: str, path: str, headers: dict[str, str] | None = None) -> S3Error:
    with pytest.raises(S3Error) as refused:
        routed(method, path, headers)
    return refused.value


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("GET", "/", "ListBuckets"),
        ("GET", "/?max-buckets=1&prefix=a&continuation-token=x", "ListBuckets"),
        ("PUT", "/bucket", "CreateBucket"),
        ("HEAD", "/bucket", "HeadBucket"),
        ("DELETE", "/bucket", "DeleteBucket"),
        ("GET", "/bucket", "ListObjects"),
        (
            "GET",
            "/bucket?prefix=a&delimiter=/&marker=b&max-keys=3&encoding-type=url",
            "ListObjects",
        ),
        ("GET", "/bucket?list-type=2&start-after=a&fetch-owner=true", "ListObjectsV2"),
        ("GET", "/bucket?versions&key-marker=a", "ListObjectVersions"),
        ("GET", "/bucket?list-type=2&versions", "ListObjectVersions"),
        ("GET", "/bucket?location", "GetBucketLocation"),
        ("GET", "/bucket?uploads&prefix=a&key-marker=b", "ListMultipartUploads"),
        ("POST", "/bucket?delete", "DeleteObjects"),
        ("GET", "/bucket?versioning", "GetBucketVersioning"),
        ("GET", "/bucket?acl", "GetBucketAcl"),
        ("GET", "/bucket?policy", "GetBucketPolicy"),
        ("GET", "/bucket?policyStatus", "GetBucketPolicyStatus"),
        ("GET", "/bucket?ownershipControls", "GetBucketOwnershipControls"),
        ("GET", "/bucket?publicAccessBlock", "GetPublicAccessBlock"),
        ("GET", "/bucket?tagging", "GetBucketTagging"),
        ("GET", "/bucket?object-lock", "GetObjectLockConfiguration"),
        ("PUT", "/bucket?object-lock", "PutObjectLockConfiguration"),
        ("GET", "/bucket/key?retention&versionId=null", "GetObjectRetention"),
        ("PUT", "/bucket/key?retention", "PutObjectRetention"),
        ("GET", "/bucket/key?legal-hold", "GetObjectLegalHold"),
        ("PUT", "/bucket/key?legal-hold&versionId=null", "PutObjectLegalHold"),
        ("GET", "/bucket?cors", "GetBucketCors"),
        ("GET", "/bucket?encryption", "GetBucketEncryption"),
        ("GET", "/bucket?lifecycle", "GetBucketLifecycleConfiguration"),
        ("PUT", "/bucket/key", "PutObject"),
        ("PUT", "/bucket/key?x-id=PutObject", "PutObject"),
        ("GET", "/bucket/key", "GetObject"),
        ("GET", "/bucket/key?partNumber=1&response-content-type=a", "GetObject"),
        ("GET", "/bucket/key?X-Amz-Signature=s&X-Amz-Date=d&X-Amz-Expires=1", "GetObject"),
        ("GET", "/bucket/key?versionId=null", "GetObject"),
        ("GET", "/bucket/key?acl&versionId=null", "GetObjectAcl"),
        ("DELETE", "/bucket/key?versionId=null", "DeleteObject"),
        ("HEAD", "/bucket/key?partNumber=1", "HeadObject"),
        # What means nothing to anybody is passed over, as AWS does it with a read.
        ("GET", "/?foo", "ListBuckets"),
        ("GET", "/bucket?foo", "ListObjects"),
        ("GET", "/bucket?list-type=2&metadata=true&marker=a", "ListObjectsV2"),
        ("HEAD", "/bucket?list-type=2", "HeadBucket"),
        ("GET", "/bucket/key?utm_source=mail&v=2&v=3", "GetObject"),
        ("GET", "/bucket/key?response-set-cookie=a", "GetObject"),
        ("HEAD", "/bucket/key?v=2&list-type=2", "HeadObject"),
        ("GET", "/bucket/key?uploadId=u&customer_id=7", "ListParts"),
        ("DELETE", "/bucket/key", "DeleteObject"),
        ("GET", "/bucket/key?acl", "GetObjectAcl"),
        ("GET", "/bucket/key?tagging", "GetObjectTagging"),
        ("PUT", "/bucket/key?tagging", "PutObjectTagging"),
        ("DELETE", "/bucket/key?tagging&versionId=null", "DeleteObjectTagging"),
        ("GET", "/bucket/key?attributes", "GetObjectAttributes"),
        ("POST", "/bucket/key?uploads", "CreateMultipartUpload"),
        ("PUT", "/bucket/key?partNumber=1&uploadId=u", "UploadPart"),
        ("GET", "/bucket/key?uploadId=u&max-parts=1", "ListParts"),
        ("POST", "/bucket/key?uploadId=u", "CompleteMultipartUpload"),
        ("DELETE", "/bucket/key?uploadId=u", "AbortMultipartUpload"),
    ],
)
def test_a_request_names_one_operation(method: str, path: str, operation: str) -> None:
    assert routed(method, path).value == operation


def test_a_put_with_a_source_is_a_copy() -> None:
    source = {"x-amz-copy-source": "a/b"}
    assert routed("PUT", "/bucket/key", source) is S3Operation.COPY_OBJECT
    assert (
        routed("PUT", "/bucket/key?partNumber=1&uploadId=u", source) is S3Operation.UPLOAD_PART_COPY
    )


BUCKET_SUB_RESOURCES = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "lifecycle",
    "logging",
    "metadataConfiguration",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "tagging",
    "versioning",
    "versions",
    "website",
]
OBJECT_SUB_RESOURCES = [
    "acl",
    "attributes",
    "tagging&x=1",
    "legal-hold",
    "restore",
    "retention",
    "select",
    "torrent",
    "append",
    "renameObject",
    "versionId",
    "versionId=1",
    "foo",
    "uploads=x",
    "partNumber=1",
]


WRITTEN_SETTINGS = {
    ("PUT", "acl"): "PutBucketAcl",
    ("PUT", "cors"): "PutBucketCors",
    ("PUT", "object-lock"): "PutObjectLockConfiguration",
    ("PUT", "ownershipControls"): "PutBucketOwnershipControls",
    ("PUT", "publicAccessBlock"): "PutPublicAccessBlock",
    ("PUT", "tagging"): "PutBucketTagging",
    ("DELETE", "cors"): "DeleteBucketCors",
    ("DELETE", "ownershipControls"): "DeleteBucketOwnershipControls",
    ("DELETE", "publicAccessBlock"): "DeletePublicAccessBlock",
    ("DELETE", "tagging"): "DeleteBucketTagging",
}


WRITTEN_OF_OBJECTS = {
    ("PUT", "acl"): "PutObjectAcl",
    ("PUT", "legal-hold"): "PutObjectLegalHold",
    ("PUT", "retention"): "PutObjectRetention",
}


@pytest.mark.parametrize("name", BUCKET_SUB_RESOURCES)
@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_no_sub_resource_of_a_bucket_is_written_silently(method: str, name: str) -> None:
    if (method, name) in WRITTEN_SETTINGS:
        assert routed(method, f"/bucket?{name}").value == WRITTEN_SETTINGS[method, name]
    else:
        assert refusal(method, f"/bucket?{name}").code == "NotImplemented"


@pytest.mark.parametrize("name", OBJECT_SUB_RESOURCES)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_no_sub_resource_of_an_object_is_written_silently(method: str, name: str) -> None:
    if (method, name) in WRITTEN_OF_OBJECTS:
        assert routed(method, f"/bucket/key?{name}").value == WRITTEN_OF_OBJECTS[method, name]
        return
    expected = "InvalidArgument" if method == "DELETE" and "version" in name else "NotImplemented"
    assert refusal(method, f"/bucket/key?{name}").code == expected


@pytest.mark.parametrize(
    "path",
    [
        "/?policy",
        "/bucket?replication",
        "/bucket?acl&policy",
        "/bucket?versionId=null",
        "/bucket?replication&utm_source=mail",
        "/bucket/key?cors",
        "/bucket/key?uploadId=u&partNumber=1",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_sub_resource_is_read_as_a_plain_get(method: str, path: str) -> None:
    if (method, path[:2]) == ("HEAD", "/?"):
        assert refusal(method, path).code == "MethodNotAllowed"
    else:
        assert refusal(method, path).code == "NotImplemented"


def test_every_sub_resource_that_botocore_knows_is_one_that_selects() -> None:
    model = botocore.session.get_session().get_service_model("s3")
    uris = [model.operation_model(name).http["requestUri"] for name in model.operation_names]
    selecting = {
        pair.partition("=")[0] for uri in uris for pair in uri.partition("?")[2].split("&") if pair
    }
    assert selecting - {"list-type", "x-id"} <= SUB_RESOURCES


@pytest.mark.parametrize("version", ["", "1", "NULL", "3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_an_object_here_has_no_version_but_null(method: str, version: str) -> None:
    refused = refusal(method, f"/bucket/key?versionId={version}")
    assert (refused.code, refused.fields["ArgumentValue"]) == ("InvalidArgument", version)


def test_what_means_something_is_given_only_once() -> None:
    for query in ("uploadId=a&uploadId=b", "prefix=a&prefix=b", "x-amz-acl=a&x-amz-acl=a"):
        assert refusal("GET", f"/bucket/key?{query}").code == "InvalidArgument"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/bucket/key"),
        ("OPTIONS", "/bucket/key"),
        ("POST", "/"),
        ("PUT", "/"),
        ("DELETE", "/"),
        ("POST", "/bucket/key"),
    ],
)
def test_a_method_that_means_nothing_there_is_405(method: str, path: str) -> None:
    assert refusal(method, path).http_status == 405


def test_a_post_to_a_bucket_is_a_form() -> None:
    assert routed("POST", "/bucket") is S3Operation.POST_OBJECT


@pytest.mark.parametrize(
    ("method", "path", "names"),
    [
        ("PUT", "/bucket/key", "If-Modified-Since If-Unmodified-Since x-amz-if-match-size"),
        ("DELETE", "/bucket/key", "If-Unmodified-Since"),
        ("POST", "/bucket/key?uploadId=u", "If-Unmodified-Since x-amz-if-match-size"),
        ("PUT", "/bucket/key?partNumber=1&uploadId=u", "If-Match If-None-Match x-octad-if-version"),
        ("POST", "/bucket/key?uploads", "If-None-Match"),
        ("DELETE", "/bucket/key?uploadId=u", "If-Match x-amz-if-match-last-modified-time"),
        ("PUT", "/bucket", "If-None-Match x-octad-if-version"),
    ],
)
def test_a_condition_on_a_write_that_takes_none_is_never_ignored(
    method: str, path: str, names: str
) -> None:
    for name in names.split():
        refused = refusal(method, path, {name.lower(): "*"})
        assert (refused.http_status, refused.fields["Header"]) == (501, name)


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("PUT", "/bucket/key", "if-match if-none-match x-octad-if-version"),
        ("POST", "/bucket/key?uploadId=u", "if-match if-none-match x-octad-if-version"),
        ("DELETE", "/bucket/key", "if-match x-amz-if-match-size x-amz-if-match-last-modified-time"),
    ],
)
def test_a_condition_is_taken_by_what_makes_or_deletes_an_object(
    method: str, path: str, headers: str
) -> None:
    routed(method, path, dict.fromkeys(headers.split(), "1"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-server-side-encryption-customer-key", "k"),
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-grant-whatever-comes-next", "id=x"),
        ("x-amz-storage-class", "GLACIER"),
        ("x-amz-website-redirect-location", "/"),
        ("x-amz-if-match-size", "5"),
        ("x-amz-mfa", "1"),
        ("x-amz-bucket-namespace", "account-regional"),
        ("x-amz-rename-source", "a"),
        ("x-amz-object-lock-whatever-comes-next", "1"),
        ("x-amz-write-whatever-comes-next", "0"),
        ("x-amz-copy-source-if-match", "e"),  # Without a source it belongs to no known operation.
    ],
)
def test_a_header_that_changes_a_write_is_never_ignored(name: str, value: str) -> None:
    refused = refusal("PUT", "/bucket/key", {name: value})
    assert (refused.http_status, refused.fields["Header"]) == (501, name)
    assert name in refused.message


@pytest.mark.parametrize("path", ["/bucket/key?partNumber=1&uploadId=u", "/bucket?cors"])
def test_an_access_list_is_refused_where_nothing_would_keep_it(path: str) -> None:
    refused = refusal("PUT", path, {"x-amz-acl": "public-read"})
    assert (refused.http_status, refused.fields["Header"]) == (501, "x-amz-acl")


@pytest.mark.parametrize("value", ["", "false", "False", "OFF", " off "])
@pytest.mark.parametrize(
    "name",
    [
        "x-amz-acl",
        "x-amz-bucket-object-lock-enabled",
        "x-amz-object-lock-legal-hold",
        "x-amz-server-side-encryption-bucket-key-enabled",
        "x-amz-tagging",
        "x-amz-website-redirect-location",
    ],
)
def test_a_header_that_says_that_nothing_is_set_asks_for_nothing(name: str, value: str) -> None:
    assert routed("PUT", "/bucket/key", {name: value}) is S3Operation.PUT_OBJECT


def test_tags_are_taken_where_they_are_kept_and_nowhere_else() -> None:
    tags = {"x-amz-tagging": "a=b"}
    for method, path in (("PUT", "/bucket/key"), ("POST", "/bucket/key?uploads")):
        routed(method, path, tags)
    routed("PUT", "/bucket/key", {**tags, "x-amz-copy-source": "bucket/other"})
    for method, path in (("PUT", "/bucket"), ("PUT", "/bucket/key?partNumber=1&uploadId=u")):
        assert refusal(method, path, tags).fields["Header"] == "x-amz-tagging"


def test_a_header_that_nobody_knows_is_served_and_told_of() -> None:
    headers = {"x-amz-api-version": "2006-03-01", "x-amz-anything": "1", "x-amz-date": "d"}
    for method in ("GET", "PUT", "DELETE"):
        assert route(method, "bucket", b"key", {}, headers)[1] == [
            "x-amz-api-version",
            "x-amz-anything",
        ]
    assert not route("PUT", "bucket", b"key", {}, {"x-amz-bypass-governance-retention": "true"})[1]


def test_what_ordinary_clients_send_is_taken() -> None:
    headers = {
        "x-amz-date": "d",
        "x-amz-content-sha256": "s",
        "x-amz-meta-a": "b",
        "x-amz-acl": "private",
        "x-amz-storage-class": "STANDARD",
        "x-amz-checksum-crc32": "c",
        "x-amz-sdk-checksum-algorithm": "CRC32",
        "x-amz-trailer": "t",
        "x-amz-decoded-content-length": "1",
        "amz-sdk-invocation-id": "i",
        "x-amzn-trace-id": "t",
    }
    assert routed("PUT", "/bucket/key", headers) is S3Operation.PUT_OBJECT


def test_a_read_that_expects_encryption_is_refused() -> None:
    headers = {"x-amz-server-side-encryption-customer-key": "k"}
    assert refusal("GET", "/bucket/key", headers).code == "NotImplemented"


def test_a_header_in_the_query_of_a_presigned_url_counts_as_a_header() -> None:
    query, headers = with_hoisted_headers({"X-Amz-Meta-A": "1", "x-id": "PutObject"}, {"host": "h"})
    assert (query, headers) == ({}, {"host": "h", "x-amz-meta-a": "1"})
    assert refusal("PUT", "/bucket/key?x-amz-mfa=a").fields["Header"] == "x-amz-mfa"


def test_the_checksum_of_no_bytes_in_a_presigned_url_says_nothing_of_the_body() -> None:
    signed = {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-sdk-checksum-algorithm": "CRC32"}
    assert with_hoisted_headers(signed, {"host": "h"}) == ({}, {"host": "h"})


def test_another_checksum_in_a_presigned_url_is_one_of_the_body() -> None:
    signed = {"X-Amz-Checksum-Crc32": "AAAAAQ==", "x-amz-sdk-checksum-algorithm": "CRC32"}
    assert with_hoisted_headers(signed, {}) == ({}, {"x-amz-checksum-crc32": "AAAAAQ=="})


def test_a_header_and_a_query_that_disagree_are_refused() -> None:
    assert refusal("PUT", "/b/k?x-amz-acl=a", {"x-amz-acl": "private"}).code == "InvalidRequest"


def test_a_session_token_is_refused_as_there_are_no_sessions() -> None:
    assert refusal("GET", "/bucket/key", {"x-amz-security-token": "t"}).code == "InvalidToken"
    assert refusal("GET", "/bucket/key?X-Amz-Security-Token=t").code == "InvalidToken"


def test_no_bucket_is_looked_up_by_a_name_that_it_cannot_have() -> None:
    assert refusal("GET", "/Bucket/key").code == "InvalidBucketName"
    assert refusal("GET", "/../key").code == "InvalidBucketName"


def test_a_key_of_1024_bytes_is_the_longest() -> None:
    assert routed("GET", f"/bucket/{'k' * 1024}") is S3Operation.GET_OBJECT
    assert refusal("GET", f"/bucket/{'k' * 1023}ü").code == "KeyTooLongError"
