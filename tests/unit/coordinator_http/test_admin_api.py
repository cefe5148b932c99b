"""The admin API is open to admins who sign, and does what it says in one transaction."""

from __future__ import annotations

import asyncio
import http.client
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest
from tests.unit.coordinator.running_coordinator import KEYS, TOKEN, open_cluster, running, until
from tests.unit.coordinator_http.admin_requests import (
    ROOT,
    ask,
    create_key,
    send,
    signed_headers,
)

from octad.client.cluster.refusal import RefusalMessage
from octad.client.s3.owners import canonical_id, is_owner_name
from octad.client.s3.sigv4 import UNSIGNED_PAYLOAD, Credentials, presign_query
from octad.coordinator.http.api import OPERATIONS
from octad.coordinator.schema.access_keys import access_key_record, secret_of
from octad.coordinator.schema.admin_messages import (
    ADMIN_BUCKETS_PATH,
    ADMIN_KEYS_PATH,
    BucketsDocument,
    CreateKeyRequest,
    KeyDocument,
    KeysDocument,
    PublicDocument,
    seal_new_secret,
)
from octad.coordinator.schema.bucket_settings import ALL_BLOCKED, PublicAccessBlock
from octad.coordinator.schema.records import (
    AccessKeyRecord,
    BucketRecord,
    BucketUsageRecord,
)
from octad.coordinator.store.interface import ConfigStore, KeyValue, Put
from octad.sharding.ids import BucketId, PoolId

ALICE = Credentials("ALICEKEY1", "alice-secret-1")
SECOND = Credentials("ALICEKEY2", "alice-secret-2")
THIRD = Credentials("ALICEKEY3", "alice-secret-3")


@asynccontextmanager
async def site(directory: Path) -> AsyncIterator[tuple[ConfigStore, str]]:
    async with open_cluster(directory) as store, running(store) as (_, url):
        yield store, url


def refusal(body: bytes) -> str:
    return msgspec.json.decode(body, type=RefusalMessage).code


async def keys_at(url: str, credentials: Credentials = ROOT) -> list[KeyDocument]:
    status, body = await ask(url, "GET", ADMIN_KEYS_PATH, credentials=credentials)
    assert status == 200, body
    return list(msgspec.json.decode(body, type=KeysDocument).keys)


def admin_requests() -> list[tuple[str, str]]:
    paths = [(each.method, each.path) for each in OPERATIONS if each.for_admins]
    there = [(m, p.replace("{access_key}", "KEY").replace("{bucket}", "photos")) for m, p in paths]
    nowhere = [("GET", "/cluster/v1/admin"), ("POST", "/cluster/v1/admin/nothing/here")]
    return [*there, ("HEAD", ADMIN_KEYS_PATH), ("GET", "/cluster/v1/%61dmin/keys"), *nowhere]


async def test_what_no_admin_has_signed_is_refused_with_403(tmp_path: Path) -> None:
    async with site(tmp_path) as (_, url):
        assert (await create_key(url, ALICE, "alice"))[0] == 200
        for method, path in admin_requests():
            unsigned = await send(url, method, path, b"{}", {})
            other = await ask(url, method, path, b"{}", ALICE)
            unknown = await ask(url, method, path, b"{}", Credentials("NOBODY", "no-secret"))
            wrong = await ask(url, method, path, b"{}", Credentials("octad", "octad-secreT"))
            found = [status for status, _ in (unsigned, other, unknown, wrong)]
            assert found == [403] * 4, (method, path)
        assert len(await keys_at(url)) == 2


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"now": lambda: time.time() - 1000}, "RequestTimeTooSkewed"),
        ({"now": lambda: time.time() + 1000}, "RequestTimeTooSkewed"),
        ({"content_sha256": UNSIGNED_PAYLOAD}, "AccessDenied"),
        ({"content_sha256": "0" * 64}, "AccessDenied"),
        ({"content_sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}, "AccessDenied"),
    ],
)
async def test_time_and_body_are_signed(
    tmp_path: Path, changes: dict[str, object], code: str
) -> None:
    async with site(tmp_path) as (_, url):
        path = f"{ADMIN_BUCKETS_PATH}/photos/quota"
        body = b'{"quota_bytes":1}'
        given = {name: value() if callable(value) else value for name, value in changes.items()}
        headers = signed_headers(url, "PUT", path, body, **given)  # type: ignore[arg-type]
        status, answer = await send(url, "PUT", path, body, headers)
        assert (status, refusal(answer)) == (403, code)


async def test_a_name_that_no_key_can_have_is_refused_without_asking_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some stores could not even be asked: it need not be UTF-8."""
    asked: list[str] = []
    async with site(tmp_path) as (store, url):
        get = store.get

        async def watched(key: str) -> KeyValue | None:
            asked.append(key)
            return await get(key)

        monkeypatch.setattr(store, "get", watched)
        for name in ("a/b", "..", "a", "k" * 129, "\udcff"):
            headers = signed_headers(url, "GET", ADMIN_KEYS_PATH, b"")
            sent = headers["authorization"].replace("octad", name, 1)
            status, body = await asyncio.to_thread(
                send_bytes, sent.encode("utf-8", "surrogateescape"), headers
            )
            assert (status, refusal(body)) == (403, "InvalidAccessKeyId"), name
    assert [key for key in asked if "/keys/" in key] == []  # The leader asks for other things.


def send_bytes(authorization: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """Of a GET; with a header that is no text."""
    connection = http.client.HTTPConnection(headers["host"], timeout=10)
    with closing(connection):
        sent = headers | {"authorization": authorization}
        connection.request("GET", ADMIN_KEYS_PATH, headers=sent)
        answer = connection.getresponse()
        return answer.status, answer.read()


async def test_a_signature_is_good_for_one_request_only(tmp_path: Path) -> None:
    async with site(tmp_path) as (_, url):
        body = b'{"quota_bytes":1}'
        path = f"{ADMIN_BUCKETS_PATH}/photos/quota"
        headers = signed_headers(url, "PUT", path, body)
        other = path.replace("photos", "videos")
        for sent in (
            ("PUT", other, body, headers),
            ("PUT", path, b'{"quota_bytes":2}', headers),
            ("GET", path, body, headers),
            ("PUT", path, body, {**headers, "host": "other:9400"}),
            ("PUT", f"{path}?a=b", body, headers),
        ):
            assert (await send(url, *sent))[0] == 403, sent
        host = url.removeprefix("http://")
        query = presign_query(
            method="GET",
            path=ADMIN_KEYS_PATH,
            query="",
            headers={"host": host},
            credentials=ROOT,
            region="us-east-1",
            now=time.time(),
            expires_s=60,
        )
        assert (await send(url, "GET", f"{ADMIN_KEYS_PATH}?{query}", b"", {}))[0] == 403


async def test_a_key_is_made_and_opens_what_its_owner_may(tmp_path: Path) -> None:
    async with site(tmp_path) as (store, url):
        status, body = await create_key(url, ALICE, "alice", admin=True)
        owner_id = canonical_id(TOKEN.cluster, "alice")
        made = KeyDocument("ALICEKEY1", "alice", owner_id, admin=True, disabled=False)
        assert (status, msgspec.json.decode(body, type=KeyDocument)) == (200, made)
        entry = await store.get(KEYS.access_key("ALICEKEY1"))
        assert entry is not None
        record = msgspec.json.decode(entry.value, type=AccessKeyRecord)
        assert secret_of(TOKEN, record) == "alice-secret-1"
        assert b"alice-secret-1" not in body + entry.value
        assert made in await keys_at(url, ALICE), "she is an admin"


async def test_a_request_for_a_key_may_be_sent_again_but_never_changes_one(tmp_path: Path) -> None:
    async with site(tmp_path) as (_, url):
        first = await create_key(url, ALICE, "alice")
        assert await create_key(url, ALICE, "alice") == first
        other = Credentials(ALICE.access_key, "another-secret")
        for changed in (
            await create_key(url, other, "alice"),
            await create_key(url, ALICE, "bob"),
            await create_key(url, ALICE, "alice", admin=True),
        ):
            assert (changed[0], refusal(changed[1])) == (409, "key-exists")
        assert [key.owner for key in await keys_at(url)] == ["alice", "root"]


async def test_an_owner_has_two_valid_keys_however_many_ask_at_once(tmp_path: Path) -> None:
    async with site(tmp_path) as (_, url):
        wanted = [Credentials(f"ALICEKEY{number}", f"alice-secret-{number}") for number in range(5)]
        found = await asyncio.gather(*(create_key(url, each, "alice") for each in wanted))
        assert sorted(status for status, _ in found if status != 503) == [200, 200, 409, 409, 409]
        valid = [key.access_key for key in await keys_at(url) if key.owner == "alice"]
        assert len(valid) == 2
        status, _ = await ask(url, "POST", f"{ADMIN_KEYS_PATH}/{valid[0]}/disable")
        assert status == 200
        assert (await create_key(url, Credentials("NEWONE", "new-secret"), "alice"))[0] == 200


async def test_a_disabled_and_a_removed_key_open_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as (_, url):
        for key in (ALICE, SECOND):
            assert (await create_key(url, key, "alice", admin=True))[0] == 200
        assert (await ask(url, "POST", f"{ADMIN_KEYS_PATH}/ALICEKEY1/disable"))[0] == 200
        assert (await ask(url, "DELETE", f"{ADMIN_KEYS_PATH}/ALICEKEY2"))[0] == 200
        for key in (ALICE, SECOND):
            status, body = await ask(url, "GET", ADMIN_KEYS_PATH, credentials=key)
            assert (status, refusal(body)) == (403, "InvalidAccessKeyId")
        status, body = await ask(url, "DELETE", f"{ADMIN_KEYS_PATH}/ALICEKEY2")
        assert (status, refusal(body)) == (404, "no-such-key")
        assert [key.disabled for key in await keys_at(url)] == [True, False]


async def test_the_last_valid_key_of_an_admin_stays(tmp_path: Path) -> None:
    async with site(tmp_path) as (_, url):
        for method, path in (("POST", "/octad/disable"), ("DELETE", "/octad")):
            status, body = await ask(url, method, f"{ADMIN_KEYS_PATH}{path}")
            assert (status, refusal(body)) == (409, "last-admin")
        assert (await create_key(url, ALICE, "alice", admin=True))[0] == 200
        keys = (ROOT, ALICE)
        found = await asyncio.gather(
            *(
                ask(url, "DELETE", f"{ADMIN_KEYS_PATH}/{each.access_key}", credentials=each)
                for each in keys
            )
        )
        statuses = [status for status, _ in found]
        assert statuses.count(200) == 1, statuses
        left = [(await ask(url, "GET", ADMIN_KEYS_PATH, credentials=each))[0] for each in keys]
        assert left.count(200) == 1, "an admin is left"


@pytest.mark.parametrize("owner", ["", "Alice", "a_b", "-a", "a-", "a" * 64, "123456789012", "ä"])
async def test_an_owner_needs_a_name(tmp_path: Path, owner: str) -> None:
    assert not is_owner_name(owner)
    async with site(tmp_path) as (_, url):
        status, body = await create_key(url, ALICE, owner)
        assert (status, refusal(body)) == (400, "bad-owner")


async def test_a_secret_that_others_sealed_or_that_is_none_is_refused(tmp_path: Path) -> None:
    async with site(tmp_path) as (_, url):
        path = f"{ADMIN_KEYS_PATH}/ALICEKEY1"
        for signer, sealed_for in (("other-secret", "ALICEKEY1"), (ROOT.secret_key, "ALICEKEY2")):
            sealed = seal_new_secret(signer, sealed_for, "alice-secret-1", bytes(12))
            body = msgspec.json.encode(CreateKeyRequest("alice", sealed))
            status, answer = await ask(url, "PUT", path, body)
            assert (status, refusal(answer)) == (400, "not-sealed")
        for key in (Credentials("ALICEKEY1", "short"), Credentials("AB", "alice-secret-1")):
            status, answer = await create_key(url, key, "alice")
            assert (status, refusal(answer)) == (400, "bad-key")


async def test_a_record_that_does_not_open_or_is_anothers_opens_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as (store, url):
        record = access_key_record(TOKEN, "octad", "octad-secret", "root", bytes(12), admin=True)
        moved = msgspec.json.encode(record)  # Under the name of another key.
        damaged = msgspec.json.encode(
            msgspec.structs.replace(record, access_key="broken", secret_encrypted="AAAA")
        )
        await store.transact(
            [], [Put(KEYS.access_key("moved"), moved), Put(KEYS.access_key("broken"), damaged)]
        )
        for name in ("moved", "broken"):
            key = Credentials(name, "octad-secret")
            status, body = await ask(url, "GET", ADMIN_KEYS_PATH, credentials=key)
            assert (status, refusal(body)) == (403, "InvalidAccessKeyId")


async def test_the_first_key_of_a_cluster_of_before_becomes_an_admins(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store:
        entry = await store.get(KEYS.access_key("octad"))
        assert entry is not None
        older = entry.value.replace(b',"admin":true', b',"newer":1')
        await store.transact([], [Put(entry.key, older)])
        async with running(store) as (coordinator, url):
            await until(lambda: coordinator.is_leading, "it leads")
            async with asyncio.timeout(5):
                while (await ask(url, "GET", ADMIN_KEYS_PATH))[0] != 200:
                    await asyncio.sleep(0.01)
            marked = await store.get(KEYS.access_key("octad"))
            assert marked is not None
            assert b'"newer":1' in marked.value


async def test_buckets_show_what_they_take_and_their_quotas(tmp_path: Path) -> None:
    async with site(tmp_path) as (store, url):
        records = [
            BucketRecord(name, BucketId(number), PoolId(0), "root", 0, state)
            for number, (name, state) in enumerate(
                [("photos", "active"), ("videos", "active"), ("gone", "deleting")], 1
            )
        ]
        usage = msgspec.json.encode(BucketUsageRecord(3, 300))
        await store.transact(
            [],
            [
                *(Put(KEYS.bucket(each.name), msgspec.json.encode(each)) for each in records),
                Put(KEYS.usage(BucketId(1)), usage),
            ],
        )
        path = f"{ADMIN_BUCKETS_PATH}/photos/quota"
        assert (await ask(url, "PUT", path, b'{"quota_bytes":1000}'))[0] == 200
        status, body = await ask(url, "GET", ADMIN_BUCKETS_PATH)
        shown = msgspec.json.decode(body, type=BucketsDocument).buckets
        assert [(b.name, b.objects, b.bytes, b.quota_bytes) for b in shown] == [
            ("photos", 3, 300, 1000),
            ("videos", 0, 0, None),
        ]
        assert (await ask(url, "PUT", path, b'{"quota_bytes":null}'))[0] == 200
        for name, quota, expected in (
            ("gone", b"1", (404, "no-such-bucket")),
            ("nothing", b"1", (404, "no-such-bucket")),
            ("photos", b"-1", (400, "bad-quota")),
            ("photos", b"1e30", (400, "bad-request")),
            ("photos", b'"1"', (400, "bad-request")),
        ):
            path = f"{ADMIN_BUCKETS_PATH}/{name}/quota"
            status, body = await ask(url, "PUT", path, b'{"quota_bytes":%s}' % quota)
            assert (status, refusal(body)) == expected


async def test_what_is_lifted_is_put_back_and_nothing_else_changes(tmp_path: Path) -> None:
    async with site(tmp_path) as (store, url):
        record = BucketRecord("photos", BucketId(7), PoolId(0), "root", 1, acl="public-read")
        newer = msgspec.json.encode(record)[:-1] + b',"newer":[1]}'
        await store.transact([], [Put(KEYS.bucket("photos"), newer)])
        path = f"{ADMIN_BUCKETS_PATH}/photos/public"
        for allowed, ownership, blocked in (
            (True, "BucketOwnerPreferred", PublicAccessBlock()),
            (False, "BucketOwnerEnforced", ALL_BLOCKED),
        ):
            body = b'{"allowed":%s}' % str(allowed).lower().encode()
            answers = [await ask(url, "PUT", path, body) for _ in range(2)]
            expected = PublicDocument("photos", allowed, "public-read")
            assert answers == [(200, msgspec.json.encode(expected))] * 2
            entry = await store.get(KEYS.bucket("photos"))
            assert entry is not None
            assert msgspec.json.decode(entry.value)["newer"] == [1]
            assert msgspec.json.decode(entry.value, type=BucketRecord) == msgspec.structs.replace(
                record, ownership=ownership, public_access=blocked
            )


async def test_a_bucket_that_is_not_there_is_not_opened(tmp_path: Path) -> None:
    async with site(tmp_path) as (store, url):
        gone = BucketRecord("gone", BucketId(7), PoolId(0), "root", 1, "deleting")
        await store.transact([], [Put(KEYS.bucket("gone"), msgspec.json.encode(gone))])
        for name, sent, expected in (
            ("gone", b'{"allowed":true}', (404, "no-such-bucket")),
            ("nothing", b'{"allowed":true}', (404, "no-such-bucket")),
            ("gone", b"{}", (400, "bad-request")),
        ):
            status, body = await ask(url, "PUT", f"{ADMIN_BUCKETS_PATH}/{name}/public", sent)
            assert (status, refusal(body)) == expected
        assert await store.get(KEYS.bucket("nothing")) is None
