"""The shard map of a client: kept fresh without a task, and never more than a hint."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.client_http.scripted_transport import Script, ScriptedRuntime

from octad.client.calls.map_keeper import AGAIN_S, LOOK_S, SILENCE_S_MAX, MapKeeper
from octad.client.calls.placement import BUCKETS_MAX, Placement, parse_placement
from octad.client.calls.settings import settings_of
from octad.client.cluster.cluster_documents import NodesDocument
from octad.client.cluster.status_document import NodeStatus
from octad.client.http.blocking import drive
from octad.sharding.ids import BucketId, Epoch, NodeId, PoolId, ShardId
from octad.sharding.map.compact_map import encode_map
from octad.sharding.map.shard_map import Member, Pool, ShardConfiguration, ShardMap

POOL, BUCKET = PoolId(0), BucketId(7)


def map_of(primary: int) -> bytes:
    member = Member(NodeId(primary), "d")
    configuration = ShardConfiguration(Epoch(1), 0, NodeId(primary), (member,))
    return encode_map(ShardMap({POOL: Pool(POOL, 1, 0)}, {ShardId(0): configuration}))


def nodes_of(*numbers: int) -> bytes:
    return msgspec.json.encode(
        NodesDocument(
            tuple(
                NodeStatus(
                    f"n{number}", True, None, "d", None, f"10.0.0.{number}:9000", None, None, None,
                    0, 0,
                )
                for number in numbers
            ),
            0.0,
        )
    )  # fmt: skip


def answer(body: bytes, *, status: int = 200, tag: str = "t") -> bytes:
    head = f'HTTP/1.1 {status} X\r\nETag: W/"{tag}"\r\nContent-Length: {len(body)}\r\n\r\n'
    return head.encode() + body


FIRST: Script = [answer(nodes_of(1, 2)), answer(map_of(1)), answer(nodes_of(1, 2))]


def keeper_of(**scripts: list[Script | Exception]) -> tuple[MapKeeper, ScriptedRuntime]:
    runtime = ScriptedRuntime({name: scripts[name] for name in scripts})
    runtime.time = 100.0
    coordinators = ",".join(f"http://{name}:9400" for name in scripts)
    settings = settings_of(
        None,
        "key",
        "secret",
        coordinator=coordinators,
        region=None,
        authority_file=None,
        deadline_s=60.0,
        hedge=False,
        environment={},
    )
    keeper = MapKeeper(settings, runtime)
    keeper.placement.set_bucket("photos", (POOL, BUCKET))
    return keeper, runtime


def look(keeper: MapKeeper, runtime: ScriptedRuntime) -> bool:
    runtime.time += LOOK_S
    return drive(keeper.keep())


def primary(keeper: MapKeeper) -> str:
    address = keeper.placement.address("photos", "cat")
    return "" if address is None else address.host


def test_the_first_call_waits_for_the_map_and_leaves_a_long_poll_out() -> None:
    keeper, runtime = keeper_of(c=[[*FIRST, 100.0]])
    assert look(keeper, runtime)
    assert primary(keeper) == "10.0.0.1"
    sent = runtime.connections[0][1].sent
    assert sent[-1].startswith(b"GET /cluster/v1/map?wait=30 ")
    assert b'if-none-match: W/"t"' in sent[-1]
    begin = runtime.time
    assert not look(keeper, runtime)
    assert runtime.time == begin + LOOK_S


def test_the_next_map_is_taken_when_it_has_come_and_asked_for_again() -> None:
    following = [answer(map_of(2), tag="u"), answer(nodes_of(1, 2, 3))]
    keeper, runtime = keeper_of(c=[[*FIRST, *following, 100.0]])
    look(keeper, runtime)
    assert look(keeper, runtime)
    assert primary(keeper) == "10.0.0.2"
    assert len(keeper.placement.addresses) == 3
    assert b'if-none-match: W/"u"' in runtime.connections[0][1].sent[-1]


def test_nothing_new_is_no_failure() -> None:
    keeper, runtime = keeper_of(c=[[*FIRST, answer(b"", status=304), 100.0]])
    look(keeper, runtime)
    assert not look(keeper, runtime)
    assert runtime.attempts == ["c"]
    assert keeper.failure == ""


@pytest.mark.parametrize(
    "nonsense", [[], [answer(b"no map")], [answer(b"{}", status=503)], [b"nothing like it\r\n\r\n"]]
)
def test_a_coordinator_that_fails_is_left_for_the_next_one_and_the_map_serves_on(
    nonsense: Script,
) -> None:
    keeper, runtime = keeper_of(c=[[*FIRST, *nonsense]], d=[[*FIRST, 100.0]])
    look(keeper, runtime)
    look(keeper, runtime)
    assert runtime.attempts[:2] == ["c", "d"]
    assert primary(keeper) == "10.0.0.1"
    assert runtime.connections[0][1].closed


def test_one_that_is_silent_for_too_long_is_left() -> None:
    keeper, runtime = keeper_of(c=[[*FIRST, 1000.0]], d=[[*FIRST, 100.0]])
    look(keeper, runtime)
    runtime.time += SILENCE_S_MAX
    look(keeper, runtime)
    assert runtime.connections[0][1].closed


def test_where_none_answers_they_are_asked_once_a_second_and_the_reason_is_kept() -> None:
    keeper, runtime = keeper_of(c=[OSError("refused")])
    for _ in range(int(AGAIN_S / LOOK_S) - 2):
        assert not look(keeper, runtime)
    assert runtime.attempts == ["c"]
    assert keeper.failure == "http://c:9400: refused"


def test_a_bucket_with_another_id_is_asked_for_anew() -> None:
    placement = Placement()
    placement.set_bucket("photos", (POOL, BucketId(0x1F)))
    placement.on_answer("photos", {"x-octad-version": "1f-2-3"})
    placement.on_answer("photos", {})
    assert placement.knows("photos")
    placement.on_answer("photos", {"x-octad-version": "20-2-3"})
    assert not placement.knows("photos")


def test_buckets_have_a_bound() -> None:
    placement = Placement()
    for number in range(BUCKETS_MAX + 1):
        placement.set_bucket(f"b{number}", None)
    assert not placement.knows("b0")


@pytest.mark.parametrize("text", ["", "1", "a/b", "1/-2", "1/99999999999", "1/4294967296", "²/1"])
def test_a_node_that_lies_about_a_buckets_place_is_not_believed(text: str) -> None:
    assert parse_placement(text) is None
    assert parse_placement("3/17") == (3, 17)
