"""An SDK's own retries, whichever node they go to, and writes that have fewer copies."""

from __future__ import annotations

import pytest
from tests.unit.s3.front_door_site import BOB, FrontDoorSite, RawAnswer

from octad.client.s3.sigv4 import Credentials
from octad.sharding.limits import SDK_RETRY_AGE_S
from octad.storage_node.s3.protocol.requests.attempts import sdk_age_s, sdk_request_id
from octad.storage_node.shards.object_store import Degraded


class Client:
    """Tries of one invocation, and requests of others, about one key of a bucket of its own."""

    def __init__(self, site: FrontDoorSite, bucket: str) -> None:
        self.site = site
        self.bucket = bucket
        self.path = f"/{bucket}/key"

    def attempt(self, number: int, method: str, query: str = "", body: bytes = b"") -> RawAnswer:
        headers = {"amz-sdk-invocation-id": "one", "amz-sdk-request": f"attempt={number}; max=5"}
        return self.site.request(method, self.path, query, headers=headers, body=body)

    def other(self, method: str, query: str = "", body: bytes = b"") -> RawAnswer:
        return self.site.request(method, self.path, query, body=body)

    def body(self) -> bytes:
        return self.other("GET").body

    def begin_upload(self) -> str:
        answer = self.other("POST", "uploads")
        return answer.element("{*}UploadId")


@pytest.fixture
def client(site: FrontDoorSite, bucket: str) -> Client:
    return Client(site, bucket)


def test_a_put_tried_again_after_another_put_does_not_come_back(client: Client) -> None:
    first = client.attempt(1, "PUT", body=b"A")
    client.other("PUT", body=b"B")
    again = client.attempt(2, "PUT", body=b"A")
    assert (again.status, again.headers["etag"]) == (200, first.headers["etag"])
    assert client.body() == b"B"


def test_a_delete_tried_again_after_a_put_deletes_nothing(client: Client) -> None:
    client.other("PUT", body=b"A")
    assert client.attempt(1, "DELETE").status == 204
    client.other("PUT", body=b"B")
    assert client.attempt(2, "DELETE").status == 204
    assert client.body() == b"B"


def test_tags_put_again_after_other_tags_do_not_come_back(client: Client) -> None:
    def tags(value: str) -> bytes:
        tag = f"<Tag><Key>a</Key><Value>{value}</Value></Tag>"
        return f"<Tagging><TagSet>{tag}</TagSet></Tagging>".encode()

    client.other("PUT", body=b"A")
    assert client.attempt(1, "PUT", "tagging", tags("1")).status == 200
    client.other("PUT", "tagging", tags("2"))
    assert client.attempt(2, "PUT", "tagging", tags("1")).status == 200
    assert b"<Value>2</Value>" in client.other("GET", "tagging").body
    client.other("DELETE")
    assert client.attempt(3, "PUT", "tagging", tags("1")).status == 200
    assert client.attempt(3, "PUT", "tagging", tags("3")).code == "NoSuchKey"


def test_another_body_is_another_write(client: Client) -> None:
    client.attempt(1, "PUT", body=b"A")
    client.attempt(2, "PUT", body=b"not A")
    assert client.body() == b"not A"


def test_an_upload_begun_again_has_the_same_id(client: Client) -> None:
    ids = []
    for number in (1, 2, 3):
        answer = client.attempt(number, "POST", "uploads")
        ids.append(answer.element("{*}UploadId"))
    assert len(set(ids)) == 1
    assert ids[0]
    assert (
        len(
            [
                1
                for bucket, _, _ in client.site.store.uploads
                if bucket == client.site.store.buckets[client.bucket].id
            ]
        )
        == 1
    )


def test_a_completion_tried_again_is_the_same_success_whatever_came_between(
    client: Client,
) -> None:
    upload_id = client.begin_upload()
    part = client.other("PUT", f"partNumber=1&uploadId={upload_id}", b"part")
    document = (
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
        f"<ETag>{part.headers['etag']}</ETag></Part></CompleteMultipartUpload>"
    ).encode()
    query = f"uploadId={upload_id}"
    first = client.attempt(1, "POST", query, document)
    assert first.status == 200
    client.other("PUT", body=b"B")
    again = client.attempt(2, "POST", query, document)
    assert again.status == 200
    assert again.element("{*}ETag") == first.element("{*}ETag")
    assert client.body() == b"B"
    stranger = client.other("POST", query, document)
    assert (stranger.status, stranger.code) == (404, "NoSuchUpload")


def test_a_later_try_of_a_completion_without_its_part_is_refused_for_good(client: Client) -> None:
    upload_id = client.begin_upload()
    document = (
        b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
        b"<ETag>00000000000000000000000000000000</ETag></Part></CompleteMultipartUpload>"
    )
    store = client.site.store
    for number, refused in ((1, 0), (2, 1)):
        answer = client.attempt(number, "POST", f"uploadId={upload_id}", document)
        assert (answer.status, answer.code) == (400, "InvalidPart")
        assert len(store.refused) == refused, "an earlier try may lie before another front door"


def test_an_upload_aborted_again_is_the_same_success(client: Client) -> None:
    upload_id = client.begin_upload()
    for number in (1, 2):
        assert client.attempt(number, "DELETE", f"uploadId={upload_id}").status == 204


def test_a_write_with_fewer_copies_says_so(client: Client) -> None:
    assert "x-octad-degraded" not in client.other("PUT", body=b"A").headers
    client.site.store.degraded = Degraded(2, 3)
    try:
        for method in ("PUT", "DELETE"):
            answer = client.other(method)
            assert answer.headers["x-octad-degraded"] == "copies=2/3"
    finally:
        client.site.store.degraded = None


@pytest.mark.parametrize(("value", "strict"), [("true", True), ("false", False)])
def test_a_bucket_is_strict_when_its_maker_says_so(
    site: FrontDoorSite, value: str, strict: bool
) -> None:
    headers = {"x-octad-strict": value}
    assert site.request("PUT", f"/strict-{value}", headers=headers).status == 200
    assert site.store.buckets[f"strict-{value}"].strict == strict


def test_strictness_is_true_or_false(site: FrontDoorSite) -> None:
    answer = site.request("PUT", "/strict-one", headers={"x-octad-strict": "very"})
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def id_of(invocation: str, credentials: Credentials, *written: str) -> bytes:
    return sdk_request_id((credentials.access_key, invocation, "PutObject", *written))


def test_an_id_stands_for_one_write_of_one_client() -> None:
    alice = Credentials("ALICE", "")
    ids = {
        id_of("one", alice, "/b/k", "etag"),
        id_of("two", alice, "/b/k", "etag"),
        id_of("one", BOB, "/b/k", "etag"),
        id_of("one", alice, "/b/l", "etag"),
        id_of("one", alice, "/b/k", "other"),
        id_of("one", alice, "/b/ke", "tag"),
        sdk_request_id(("ALICE", "one", "DeleteObject", "/b/k", "etag")),
    }
    assert len(ids) == 7
    assert id_of("one", alice, "/b/k", "etag") in ids


@pytest.mark.parametrize(
    ("name", "value", "age_s"),
    [
        ("amz-sdk-request", "attempt=1", 0.0),
        ("amz-sdk-request", "ttl=20260101T000000Z; attempt=1; max=3", 0.0),
        ("amz-sdk-request", "ttl=20260101T000000Z; attempt=2; max=3", SDK_RETRY_AGE_S),
        ("amz-sdk-request", "attempt=17;max=20", SDK_RETRY_AGE_S),
        ("amz-sdk-retry", "0/0/500", 0.0),
        ("amz-sdk-retry", "1/0/495", SDK_RETRY_AGE_S),
        ("amz-sdk-request", "max=3", SDK_RETRY_AGE_S),
        ("amz-sdk-request", "", SDK_RETRY_AGE_S),
    ],
)
def test_a_try_that_may_not_be_the_first_is_as_old_as_it_can_be(
    name: str, value: str, age_s: float
) -> None:
    assert sdk_age_s({name: value}) == age_s
