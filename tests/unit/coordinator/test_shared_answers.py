"""What many watchers are told is made once; and each is told as of the newest revision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from tests.unit.coordinator.running_coordinator import KEYS, open_cluster, running, until

from octad.client.cluster.service_records import ServiceInstance
from octad.client.membership.event_document import ClusterEvent
from octad.coordinator.mirror.event_history import EventHistory
from octad.coordinator.store.interface import Put
from octad.sharding.ids import NodeId


def web(number: int) -> Put:
    record = ServiceInstance(service="web", instance=f"i{number}", address=f"10.0.0.{number}:80")
    return Put(f"{KEYS.prefix}services/web/i{number}", msgspec.json.encode(record))


async def test_the_first_state_is_made_once_however_many_watchers_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    state = EventHistory.state

    def counted(history: EventHistory, name_prefix: str) -> Sequence[ClusterEvent]:
        made.append(name_prefix)
        return state(history, name_prefix)

    monkeypatch.setattr(EventHistory, "state", counted)
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, _):
        feed = coordinator.feed
        revision = (await store.transact([], [web(1)])).revision
        await until(lambda: feed.history.revision >= revision, "the feed knows of it")
        made.clear()
        told = [await feed.next("services/", None, 0.0) for _ in range(100)]
        assert {len(each.document.events) for each in told} == {1}
        # The coordinator's own beats may come in between: far from once for each.
        assert len(made) <= 5
        assert feed.resets_told >= 100, "each is counted all the same"

        revision = (await store.transact([], [web(2)])).revision
        await until(lambda: feed.history.revision >= revision, "the feed knows of the second")
        newest = await feed.next("services/", None, 0.0)
        assert len(newest.document.events) == 2
        after = await feed.next("services/", told[0].position, 0.0)
        assert [event.key for event in after.document.events] == ["services/web/i2"]


async def test_a_position_moves_on_with_the_store_though_nothing_public_happens(
    tmp_path: Path,
) -> None:
    async with open_cluster(tmp_path) as store, running(store) as (coordinator, _):
        feed = coordinator.feed
        first = await feed.next("services/", None, 0.0)
        await feed.next("services/", first.position, 0.0)  # The same as it asks for below.
        revision = (await store.transact([], [Put(KEYS.report(NodeId(9)), b"{}")])).revision
        await until(lambda: feed.history.revision >= revision, "the feed has come to it")
        told = await feed.next("services/", first.position, 0.0)
        assert told.document.events == ()
        assert told.position.revision >= revision
        assert told.document.revision == told.position.revision
