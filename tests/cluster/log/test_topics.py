"""Topics of a real cluster, through the log's HTTP of every node."""

from __future__ import annotations

import http.client
import json
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.harness.cluster_process import DevCluster
from tests.harness.log_client import BATCHES, LogClient

from octad.storage_node.log.record_batch import batch_of
from octad.storage_node.log.records import Record, encode_records

pytestmark = pytest.mark.cluster

RECORDS = "/v1/topics/{}/partitions/{}/records"
FENCES = "/v1/topics/{}/partitions/{}/fences"
PINS = "/v1/topics/{}/partitions/{}/pins"


def clients_of(cluster: DevCluster) -> list[LogClient]:
    """One for each live node, as the status says where it serves the log."""
    coordinator = cluster.coordinator.removeprefix("http://")
    connection = http.client.HTTPConnection(coordinator, timeout=10)
    connection.request("GET", "/cluster/v1/status")
    nodes = json.loads(connection.getresponse().read())["nodes"]
    connection.close()
    keys = cluster.access_key, cluster.secret_key
    addresses = [node["log_address"] for node in nodes if node["log_address"] is not None]
    return [LogClient(address, *keys) for address in addresses]


@pytest.fixture(scope="module")
def clients(cluster: DevCluster) -> list[LogClient]:
    return clients_of(cluster)


def values(client: LogClient, topic: str, partition: int = 0, offset: int = 0) -> list[str]:
    """All that is in a partition, from `offset` on, as its primary knows it."""
    found: list[str] = []
    known = client.ask("GET", f"/v1/topics/{topic}").document["offsets"][partition]
    seen = known["next_offset"]
    while True:
        query = {"offset": offset, "seen": seen, "wait_ms": 20_000 if offset < seen else 0}
        answer = client.fetch(topic, partition, max_bytes=10_000, **query)
        assert answer.status == 200, answer.body
        records = answer.document["records"]
        assert [record["offset"] for record in records] == list(
            range(offset, answer.document["next_offset"])
        ), "offsets are dense"
        found += [record["value"] for record in records]
        offset = answer.document["next_offset"]
        if offset >= seen:
            return found


def test_records_go_in_by_any_node_and_come_out_of_every_other(clients: list[LogClient]) -> None:
    assert clients[0].ask("PUT", "/v1/topics/orders", b'{"partitions":4}').status == 201
    for number in range(30):
        partition = number % 4
        document = {"records": [{"value": f"{number}", "key": "k", "headers": {"a": "b"}}]}
        answer = clients[number % 3].append("orders", partition, document)
        assert answer.document == {"base_offset": number // 4, "next_offset": number // 4 + 1}
    for partition in range(4):
        wanted = [f"{number}" for number in range(30) if number % 4 == partition]
        for client in clients:
            mark = client.ask("GET", "/v1/topics/orders").document["offsets"][partition]
            answer = client.fetch("orders", partition, seen=mark["next_offset"], wait_ms=5000)
            assert [record["value"] for record in answer.document["records"]] == wanted
    record = clients[1].fetch("orders", 0).document["records"][0]
    assert (record["key"], record["headers"], record["offset"]) == ("k", {"a": "b"}, 0)


def test_batches_are_kept_as_they_came(clients: list[LogClient]) -> None:
    """But for the offset and the leader epoch; and one is given whole, wherever it is entered."""
    clients[0].ask("PUT", "/v1/topics/raw", b"")
    records = [Record(None, b"%d" % n * 1000, 1000 + n) for n in range(5)]
    batch = batch_of(encode_records(records, 1000), 5, 1000, 1004)
    for client in clients:
        answer = client.ask("POST", RECORDS.format("raw", 0), batch * 2, kind=BATCHES)
        assert answer.status == 200, answer.body
    assert answer.document == {"base_offset": 20, "next_offset": 30}
    answer = clients[0].fetch("raw", 0, accept=BATCHES, offset=13, max_bytes=10)
    assert answer.body[16:] == batch[16:]
    assert struct.unpack(">q", answer.body[:8]) == (10,)
    assert answer.headers["octad-next-offset"] == "15"
    assert values(clients[1], "raw", offset=28) == ["3" * 1000, "4" * 1000]


def test_an_expected_offset_is_given_once(clients: list[LogClient]) -> None:
    clients[0].ask("PUT", "/v1/topics/cas", b"")
    outcomes: list[int] = []

    def race(client: LogClient) -> None:
        for offset in range(10):
            document = {"records": [{"value": client.address}], "expect_offset": offset}
            while (answer := client.append("cas", 0, document)).status == 409:
                time.sleep(0.01)  # The one before it is under way.
            outcomes.append(answer.status)

    threads = [threading.Thread(target=race, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [200] * 10 + [412] * 20
    assert len(values(clients[0], "cas")) == 10


def test_a_reader_at_the_end_hears_of_what_comes(clients: list[LogClient]) -> None:
    clients[0].ask("PUT", "/v1/topics/tail", b"")
    for client in clients:
        at_end = client.fetch("tail", 0, offset="end").document["next_offset"]
        threading.Timer(
            0.3, clients[0].append, ("tail", 0, {"records": [{"value": client.address}]})
        ).start()
        answer = client.fetch("tail", 0, offset=at_end, seen=at_end, wait_ms=20_000)
        assert [record["value"] for record in answer.document["records"]] == [client.address]
    quiet = clients[0].fetch("tail", 0, offset=3, wait_ms=50)
    assert quiet.document["records"] == []


def test_a_stream_gives_one_event_a_record_and_goes_on_where_it_was_left(
    clients: list[LogClient],
) -> None:
    clients[0].ask("PUT", "/v1/topics/events", b"")
    clients[0].append("events", 0, {"records": [{"value": "a"}, {"value": "b"}]})
    connection = http.client.HTTPConnection(clients[1].address, timeout=30)
    response = clients[1].begin(
        *(connection, "GET", RECORDS.format("events", 0), b"", {"offset": "1"}),
        accept="text/event-stream",
    )
    events = (line for line in iter(response.readline, b"") if line[:3] in (b"id:", b"dat"))
    assert (next(events), json.loads(next(events)[6:])["value"]) == (b"id: 1\n", "b")
    clients[2].append("events", 0, {"records": [{"value": "c"}]})
    assert (next(events), json.loads(next(events)[6:])["value"]) == (b"id: 2\n", "c")
    connection.close()


def test_a_job_that_was_fenced_appends_nothing_more_and_others_go_on(
    clients: list[LogClient],
) -> None:
    clients[0].ask("PUT", "/v1/topics/fenced", b'{"partitions":2}')
    fences = "/v1/topics/fenced/partitions/0/fences"
    for asked, stands in ((7, 7), (5, 7), (8, 8)):
        answer = clients[asked % 3].ask("POST", fences, b'{"job":"sums","token":%d}' % asked)
        assert answer.document == {"partition": 0, "job": "sums", "token": stands}
    for client, owner in zip(clients, ({"token": 7}, {}, {"token": 0}), strict=True):
        answer = client.append(
            "fenced", 0, {"records": [{"value": "zombie"}], "job": "sums"} | owner
        )
        assert (answer.status, answer.document["code"]) == (409, "fenced-job")
        assert answer.document["token"] == 8
    raw = batch_of(encode_records([Record(None, b"raw", 1)], 1), 1, 1, 1)
    path = RECORDS.format("fenced", 0)
    for query, status in (({"job": "sums"}, 409), ({"job": "sums", "token": "8"}, 200)):
        answer = clients[0].ask("POST", path, raw, kind=BATCHES, query=query)
        assert answer.status == status
    for document in ({"job": "sums", "token": 9}, {"job": "other"}, {}):
        assert (
            clients[1].append("fenced", 0, {"records": [{"value": "x"}]} | document).status == 200
        )
    zombie = {"records": [{"value": "elsewhere"}], "job": "sums"}
    assert clients[2].append("fenced", 1, zombie).status == 200, "a fence is of one partition"
    assert values(clients[0], "fenced") == ["raw", "x", "x", "x"]


def test_what_is_pinned_is_kept_until_it_is_let_go(clients: list[LogClient]) -> None:
    clients[0].ask("PUT", "/v1/topics/pinned", b"")
    clients[0].append("pinned", 0, {"records": [{"value": f"{n}"} for n in range(10)]})
    pins, trim = PINS.format("pinned", 0), "/v1/topics/pinned/partitions/0/trim"
    for id, offset in (("a", 3), ("b", 5), ("b", 5)):
        asked = b'{"owner":"sums","id":"%s","offset":%d}' % (id.encode(), offset)
        assert clients[1].ask("POST", pins, asked).status == 201
    found = clients[2].ask("GET", pins).document["pins"]
    assert [(pin["owner"], pin["id"], pin["offset"]) for pin in found] == [
        ("sums", "a", 3),
        ("sums", "b", 5),
    ]
    moved = clients[0].ask("POST", pins, b'{"owner":"sums","id":"b","offset":6}')
    assert (moved.status, moved.document["code"]) == (409, "pin-exists")
    refused = clients[0].ask("POST", trim, b'{"before_offset":4}')
    assert (refused.status, refused.document["code"]) == (409, "pinned")
    assert "pin a of sums" in refused.document["reason"]
    refused = clients[0].ask("DELETE", "/v1/topics/pinned")
    assert (refused.status, refused.document["code"]) == (409, "pinned")
    assert values(clients[1], "pinned", offset=3)[0] == "3"
    for _ in range(2):
        query = {"owner": "sums", "id": "a"}
        assert clients[0].ask("DELETE", pins, query=query).status == 204
    assert clients[2].ask("POST", trim, b'{"before_offset":5}').document["log_start"] == 5
    late = clients[0].ask("POST", pins, b'{"owner":"sums","id":"c","offset":4}')
    assert (late.status, late.document["code"]) == (416, "offset-out-of-range")
    assert clients[0].ask("DELETE", "/v1/topics/pinned", query={"force": "true"}).status == 204
    assert clients[1].ask("GET", pins).status == 404


def test_records_are_found_by_their_time(clients: list[LogClient]) -> None:
    clients[0].ask("PUT", "/v1/topics/times", b"")
    for times in ((100, 300), (200,), (400, 350)):
        records = [{"value": f"{each}", "timestamp_ms": each} for each in times]
        clients[0].append("times", 0, {"records": records})
    path = "/v1/topics/times/partitions/0/offsets"
    for client in clients:
        found = {
            asked: client.ask("GET", path, query={"timestamp_ms": f"{asked}"}).document["offset"]
            for asked in (0, 101, 300, 301, 401)
        }
        assert found == {0: 0, 101: 1, 300: 1, 301: 3, 401: 5}
        answer = client.fetch("times", 0, timestamp_ms=301, seen=5, wait_ms=5000)
        assert [record["value"] for record in answer.document["records"]] == ["400", "350"]
    both = clients[0].fetch("times", 0, timestamp_ms=1, offset=1)
    assert (both.status, both.document["code"]) == (400, "bad-request")


def test_settings_of_a_topic_change_while_it_runs(clients: list[LogClient]) -> None:
    """Batches carry the time of the append from then on; what is kept no longer goes by itself."""
    made = clients[0].ask("PUT", "/v1/topics/set", b'{"config":{"retention.bytes":"1000000"}}')
    assert made.document["config"] == {"retention.bytes": "1000000"}
    for number in range(10):
        record = {"value": f"{number}", "timestamp_ms": 5}
        clients[number % 3].append("set", 0, {"records": [record]})
    clients[1].ask("POST", PINS.format("set", 0), b'{"owner":"sums","id":"1","offset":8}')
    bad = clients[0].ask("PATCH", "/v1/topics/set", b'{"config":{"retention.ms":"1 day"}}')
    assert (bad.status, bad.document["code"]) == (400, "bad-setting")
    config = {"retention.ms": "3600000", "retention.bytes": None}
    config |= {"message.timestamp.type": "LogAppendTime"}
    altered = clients[1].ask("PATCH", "/v1/topics/set", json.dumps({"config": config}).encode())
    del config["retention.bytes"]
    assert altered.document["config"] == config
    until(
        lambda: all(
            each.ask("GET", "/v1/topics/set").document["config"] == config for each in clients
        )
    )
    for client in clients:
        client.append("set", 0, {"records": [{"value": "now", "timestamp_ms": 5}]})
    until(lambda: why(clients[2], "set")["log_start"] == 8)
    assert [each["by"] for each in why(clients[2], "set")["holds"]] == ["pin", "upkeep"]
    clients[0].ask("DELETE", PINS.format("set", 0), query={"owner": "sums", "id": "1"})
    until(lambda: why(clients[2], "set")["log_start"] == 10)
    assert [each["by"] for each in why(clients[0], "set")["holds"]] == ["retention.ms"]
    there = clients[0].fetch("set", 0, seen=13, wait_ms=5000).document["records"]
    assert [record["value"] for record in there] == ["now"] * 3
    assert all(record["timestamp_ms"] > 1_700_000_000_000 for record in there)


def why(client: LogClient, topic: str) -> dict[str, Any]:
    """Of its first partition."""
    found: dict[str, Any] = client.ask("GET", f"/v1/topics/{topic}/why").document["partitions"][0]
    return found


def until(is_so: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def test_what_is_trimmed_is_not_read_and_its_offsets_are_never_given_again(
    clients: list[LogClient],
) -> None:
    clients[0].ask("PUT", "/v1/topics/old", b"")
    producer = clients[0].ask("POST", "/v1/topics/old/producers").document["id"]
    for number in range(10):
        stamp = {"id": producer, "sequence": number}
        clients[0].append("old", 0, {"records": [{"value": f"{number}"}], "producer": stamp})
    past = clients[1].ask("POST", "/v1/topics/old/partitions/0/trim", b'{"before_offset":11}')
    assert (past.status, past.document["code"]) == (416, "offset-out-of-range")
    for _ in range(2):
        answer = clients[1].ask("POST", "/v1/topics/old/partitions/0/trim", b'{"before_offset":10}')
        there = {"partition": 0, "log_start": 10, "next_offset": 10, "bytes": 0}
        assert answer.document == there
    lower = clients[2].ask("POST", "/v1/topics/old/partitions/0/trim", b'{"before_offset":3}')
    assert lower.document["log_start"] == 10, "a start is only ever raised"
    gone = clients[0].fetch("old", 0, offset=9, seen=10)
    assert (gone.status, gone.document["code"]) == (416, "offset-out-of-range")
    time.sleep(6)  # The batches go behind the trim's back, with what the last ones said.
    again = {"records": [{"value": "9"}], "producer": {"id": producer, "sequence": 9}}
    assert clients[1].append("old", 0, again).document["base_offset"] == 9
    after = {"records": [{"value": "10"}], "producer": {"id": producer, "sequence": 10}}
    assert clients[1].append("old", 0, after).document["base_offset"] == 10


def test_s3_never_shows_a_topic_and_a_name_made_again_is_empty(
    cluster: DevCluster, clients: list[LogClient]
) -> None:
    clients[0].ask("PUT", "/v1/topics/again", b'{"partitions":2}')
    clients[0].append("again", 1, {"records": [{"value": "x"}]})
    first = clients[0].ask("GET", "/v1/topics/again").document
    s3 = LogClient(cluster.nodes[0].s3, cluster.access_key, cluster.secret_key)
    assert b"<Code>NoSuchBucket" in s3.ask("GET", "/again").body
    assert b"again" not in s3.ask("GET", "/").body
    assert clients[1].ask("PUT", "/v1/topics/again", b"").status == 409
    assert clients[2].ask("DELETE", "/v1/topics/again").status == 204
    for client in clients:
        assert client.ask("GET", "/v1/topics/again").status == 404
        assert client.append("again", 0, {"records": [{"value": "x"}]}).status == 404
    clients[1].ask("PUT", "/v1/topics/again", b"")
    assert values(clients[0], "again") == []
    assert clients[0].ask("GET", "/v1/topics/again").document["uuid"] != first["uuid"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("PUT", "/v1/topics/bad%20name", b"", 400, "bad-name"),
        ("PUT", "/v1/topics/x", b'{"partitions":0}', 400, "bad-partitions"),
        ("PUT", "/v1/topics/x", b'{"partitons":1}', 400, "bad-request"),
        ("PUT", "/v1/topics/x", b'{"pool":"moon"}', 400, "no-such-pool"),
        ("GET", "/v1/topics/nowhere", b"", 404, "no-such-topic"),
        ("GET", RECORDS.format("good", 1), b"", 404, "no-such-partition"),
        ("GET", RECORDS.format("good", "x"), b"", 404, "no-such-partition"),
        ("POST", RECORDS.format("good", 0), b'{"records":[]}', 400, "bad-request"),
        ("POST", RECORDS.format("good", 0), b"{", 400, "bad-request"),
        ("POST", RECORDS.format("good", 0), b'{"records":[{}],"token":1}', 400, "bad-request"),
        ("POST", FENCES.format("good", 0), b'{"job":"","token":1}', 400, "bad-request"),
        ("POST", PINS.format("good", 0), b'{"owner":"","id":"x","offset":0}', 400, "bad-request"),
        ("DELETE", PINS.format("good", 0), b"", 400, "bad-request"),
        ("POST", FENCES.format("good", 0), b'{"job":"x","token":-1}', 400, "bad-request"),
        ("POST", FENCES.format("good", 0), b'{"job":"\\u0000","token":1}', 400, "bad-request"),
        ("POST", RECORDS.format("good", 0), b'{"records":[{"offset":1}]}', 400, "bad-request"),
    ],
)
def test_a_request_that_is_not_right_is_answered_with_one_document(
    clients: list[LogClient], method: str, path: str, body: bytes, status: int, code: str
) -> None:
    clients[0].ask("PUT", "/v1/topics/good", b"")
    answer = clients[0].ask(method, path, body)
    assert (answer.status, answer.document["code"]) == (status, code)


def figures(cluster: DevCluster) -> dict[str, float]:
    """The metrics of the log, of all nodes together."""
    connection = http.client.HTTPConnection(cluster.coordinator.removeprefix("http://"), timeout=10)
    connection.request("GET", "/cluster/v1/status")
    nodes = json.loads(connection.getresponse().read())["nodes"]
    connection.close()
    found: dict[str, float] = {}
    for node in nodes:
        connection = http.client.HTTPConnection(node["admin_address"], timeout=10)
        connection.request("GET", "/metrics")
        for line in connection.getresponse().read().decode().splitlines():
            name, _, value = line.rpartition(" ")
            if name.startswith("octad_log_"):
                found[name] = found.get(name, 0.0) + float(value)
        connection.close()
    return found


def test_the_metrics_tell_what_the_log_did(cluster: DevCluster, clients: list[LogClient]) -> None:
    clients[0].ask("PUT", "/v1/topics/metered", b"")
    before = figures(cluster)
    for client in clients:
        client.append("metered", 0, {"records": [{"value": "x"}], "expect_offset": 0})
    there = values(clients[1], "metered")
    wrong = LogClient(clients[0].address, cluster.access_key, "another-secret")
    wrong.ask("GET", "/v1/topics")
    after = figures(cluster)
    more = {name: value - before.get(name, 0.0) for name, value in after.items()}
    assert there == ["x"]
    assert more['octad_log_requests_total{code="200",operation="append"}'] == 1
    assert more['octad_log_requests_total{code="412",operation="append"}'] == 2
    assert more['octad_log_requests_total{code="403",operation="none"}'] == 1
    assert more["octad_log_appended_batches_total"] == 1
    assert more['octad_log_refused_batches_total{code="offset-taken"}'] == 2
    assert more["octad_log_fetched_batches_total"] == more["octad_log_cache_hits_total"] == 1
    assert 0 < more["octad_log_fetched_bytes_total"] == more["octad_log_appended_bytes_total"]
    assert after["octad_log_cache_bytes"] > 0


def test_batches_that_are_not_right_are_refused_and_nothing_of_them_is_there(
    clients: list[LogClient],
) -> None:
    clients[0].ask("PUT", "/v1/topics/checked", b"")
    good = batch_of(encode_records([Record(None, b"x", 1)], 1), 1, 1, 1)
    for bad, code in (
        (good[:-1], "batch-cut-short"),
        (good[:-1] + b"!", "wrong-checksum"),
        (good + good[:20], "batch-cut-short"),
    ):
        answer = clients[0].ask("POST", RECORDS.format("checked", 0), bad, kind=BATCHES)
        assert (answer.status, answer.document["code"]) == (400, code)
    assert values(clients[0], "checked") == []


def test_nobody_gets_past_the_door_without_the_owners_keys(
    cluster: DevCluster, clients: list[LogClient]
) -> None:
    clients[0].ask("PUT", "/v1/topics/mine", b"")
    wrong = LogClient(clients[0].address, cluster.access_key, "another-secret")
    assert wrong.ask("GET", "/v1/topics").document["code"] == "SignatureDoesNotMatch"
    connection = http.client.HTTPConnection(clients[0].address, timeout=10)
    for method, path in (("GET", "/v1/topics"), ("DELETE", "/v1/topics/mine")):
        connection.request(method, path)
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["code"]) == (403, "AccessDenied")
    connection.request("GET", "/v1/openapi.json")
    assert "/v1/topics/{topic}" in json.loads(connection.getresponse().read())["paths"]
    connection.close()
    assert clients[0].ask("GET", "/v1/topics/mine").status == 200
