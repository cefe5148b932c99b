"""Which kinds of record a cluster may have: what all its nodes know, and never less again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.coordinator.cluster_records import (
    CLUSTER,
    configuration,
    incarnation,
    join_request,
    node,
)
from tests.unit.coordinator.running_coordinator import (
    KEYS,
    POLL_S,
    open_cluster,
    register,
    running,
    until,
)

from octad.coordinator.membership.admission import JoinRefused
from octad.coordinator.recovery.store_rebuild import rebuild
from octad.coordinator.schema.cluster_snapshot import ClusterSnapshot, SnapshotEntry, SnapshotHeader
from octad.coordinator.schema.format_level import CODE, level_of_all
from octad.coordinator.schema.placement_records import NodeSettings, PlacementKeys, encode_record
from octad.coordinator.schema.records import FormatLevelRecord, NodeRecord, PoolRecord
from octad.coordinator.server.coordinator import Coordinator
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import (
    Compare,
    Delete,
    LeaseId,
    Outcome,
    Put,
    StoreOperation,
    StoreUnavailable,
)
from octad.coordinator.store.mirror import Mirror
from octad.sharding.ids import NodeId, PoolId
from octad.sharding.map.shard_map import encode_configuration
from octad.storage_node.journal.record_format import Identity
from octad.storage_node.node.format_level import LevelInUse, TooOld, say_level
from octad.storage_node.node.store_snapshot import StoreSnapshot
from octad.storage_node.node.this_node import ThisNode
from octad.storage_node.operations import registry

ONE, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)
NOTHING_SAID = FormatLevelRecord()
LEVELS = st.dictionaries(st.sampled_from([ONE, TWO, THREE]), st.integers(1, 4))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    async with open_cluster(tmp_path) as opened:
        yield opened


async def level_of(store: EmbeddedStore) -> FormatLevelRecord:
    entry = await store.get(KEYS.format_level)
    return msgspec.json.decode(entry.value, type=FormatLevelRecord) if entry else NOTHING_SAID


async def level_in_use(store: EmbeddedStore, level: int) -> FormatLevelRecord:
    """Returns once the cluster uses `level`."""
    async with asyncio.timeout(10):
        while (record := await level_of(store)).level != level:
            await asyncio.sleep(POLL_S)
    return record


class Cluster:
    """A coordinator, and nodes that start on it."""

    def __init__(
        self, store: EmbeddedStore, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.store, self.coordinator, self._monkeypatch = store, coordinator, monkeypatch
        self.leases: dict[int, LeaseId] = {}

    async def start(self, number: int, level: int, said: int | None = None) -> None:
        """As `octad node` does: join, say the level, register. Raises JoinRefused, TooOld.

        `said`: what it says in its record, where that is less: it knows nothing of levels.
        """
        self._monkeypatch.setattr(registry, "FORMAT_LEVEL", level)
        request = join_request(number, wants=number)
        request = msgspec.structs.replace(request, format_level=said or level)
        joined = await self.coordinator.join(request)
        if said is None:
            await say_level(self.store, KEYS, joined.node)
        record = msgspec.structs.replace(node(number), format_level=said or level)
        self.leases[number] = await register(self.store, record)
        await until(lambda: self._is_seen(record), "the node is seen as it is")

    def _is_seen(self, record: NodeRecord) -> bool:
        return self.coordinator.placement.view().cluster.nodes.get(record.id) == record

    async def end(self, number: int) -> None:
        await self.store.revoke_lease(self.leases.pop(number))
        await until(lambda: self._is_gone(number), "it is gone")

    def _is_gone(self, number: int) -> bool:
        return NodeId(number) not in self.coordinator.placement.view().cluster.nodes

    async def looked(self) -> None:
        """The leader has looked at everything that is in the store by now."""
        token = self.coordinator._leadership.token
        assert token is not None
        await self.coordinator.levels.raise_level(token)


@pytest.fixture
async def cluster(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    async with running(store) as (coordinator, _):
        await until(lambda: coordinator.is_leading, "it leads")
        yield Cluster(store, coordinator, monkeypatch)


class Running(ThisNode):
    """A node that runs, and follows the level in use."""

    def __init__(self, store: EmbeddedStore, node: NodeId) -> None:
        self.id, self.store, self.keys = node, store, KEYS
        self.mirror = Mirror(store, KEYS.prefix)
        self.failure = asyncio.get_running_loop().create_future()
        self.level = 1
        self._tasks = {}

    async def follow(self) -> None:
        level = LevelInUse(self, self._use)
        await self.mirror.start()
        self.mirror.subscribe(lambda _key, entry: level.on_change(entry), KEYS.format_level)
        if KEYS.format_level not in self.mirror.entries:
            level.on_change(None)

    async def stop(self) -> None:
        await self.stop_running()
        await self.mirror.stop()

    def _use(self, level: int) -> None:
        self.level = level


@given(LEVELS, LEVELS, st.integers(1, 3))
def test_the_level_is_what_the_least_of_the_nodes_knows_and_never_falls(
    said: dict[NodeId, int], live: dict[NodeId, int], used: int
) -> None:
    nodes = {
        each: msgspec.structs.replace(node(each), format_level=level)
        for each, level in live.items()
    }
    level = level_of_all(FormatLevelRecord(used, said), [ONE, TWO, THREE], nodes)
    assert level >= used
    if level > used:
        assert all(said.get(each, 1) >= level for each in (ONE, TWO, THREE))
        assert all(live[each] >= level for each in live)
        assert level in {*said.values(), *live.values()}


async def test_nothing_is_written_where_all_nodes_know_the_first_level_alone(
    cluster: Cluster,
) -> None:
    for number in (1, 2, 3):
        await cluster.start(number, 1)
    await cluster.looked()
    assert await cluster.store.get(KEYS.format_level) is None


async def test_the_leader_raises_the_level_once_the_last_node_knows_it(cluster: Cluster) -> None:
    for number, level in ((3, 1), (2, 3), (1, 2)):
        await cluster.start(number, level)
    await cluster.looked()
    assert await level_of(cluster.store) == FormatLevelRecord(1, {ONE: 2, TWO: 3})
    await cluster.start(3, 2)
    raised = await level_in_use(cluster.store, 2)
    assert raised == FormatLevelRecord(2, {ONE: 2, TWO: 3, THREE: 2})


async def test_a_node_that_is_away_counts_with_what_it_said_last(cluster: Cluster) -> None:
    for number, level in ((2, 1), (1, 2)):
        await cluster.start(number, level)
    await cluster.end(2)
    await cluster.looked()
    assert (await level_of(cluster.store)).level == 1
    await cluster.start(2, 2)
    await level_in_use(cluster.store, 2)


async def test_a_node_that_is_removed_counts_no_more(cluster: Cluster) -> None:
    for number, level in ((2, 1), (1, 2)):
        await cluster.start(number, level)
    await cluster.end(2)
    key = PlacementKeys(KEYS).node_settings(TWO)
    await cluster.store.transact([], [Put(key, encode_record(NodeSettings(removed=True)))])
    await level_in_use(cluster.store, 2)


async def test_a_node_of_before_there_were_levels_counts_as_the_first_until_it_says_more(
    cluster: Cluster,
) -> None:
    await cluster.start(2, 1)
    await cluster.start(1, 2)
    both = msgspec.json.encode(FormatLevelRecord(1, {ONE: 2, TWO: 2}))  # Before it is put back.
    await cluster.store.transact([], [Put(KEYS.format_level, both)])
    await cluster.start(2, 2, said=1)
    await cluster.looked()
    await cluster.end(2)
    await cluster.looked()
    assert await level_of(cluster.store) == FormatLevelRecord(1, {ONE: 2, TWO: 1})
    await cluster.start(2, 2)
    await level_in_use(cluster.store, 2)


@pytest.mark.parametrize("comes", ["another node", "an older octad on one that was upgraded"])
async def test_the_level_does_not_rise_over_whoever_comes_while_it_is_raised(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, comes: str
) -> None:
    await cluster.start(2, 1)
    await cluster.start(1, 2)
    transact = cluster.store.transact
    landed: list[bool] = []

    async def late(compares: Sequence[Compare], operations: Sequence[StoreOperation]) -> Outcome:
        fenced = any(each.key == KEYS.leader for each in compares)
        if not fenced or KEYS.format_level not in {each.key for each in operations}:
            return await transact(compares, operations)
        monkeypatch.setattr(cluster.store, "transact", transact)
        if comes == "another node":
            await cluster.coordinator.join(join_request(3))
        else:
            monkeypatch.setattr(registry, "FORMAT_LEVEL", 1)
            await say_level(cluster.store, KEYS, TWO)
        outcome = await transact(compares, operations)
        landed.append(outcome.succeeded)
        return outcome

    monkeypatch.setattr(cluster.store, "transact", late)
    await cluster.start(2, 2)
    await until(lambda: bool(landed), "the leader tries")
    await cluster.looked()
    assert landed == [False]
    assert (await level_of(cluster.store)).level == 1


async def test_a_node_that_knows_less_than_the_level_in_use_does_not_join_or_start(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.start(1, 2)
    await level_in_use(cluster.store, 2)
    said = "the cluster uses format level 2 and this octad knows 1: .* upgrade this node"
    before = await level_of(cluster.store)
    for number in (1, 2):  # One that was put back, and one that is new.
        with pytest.raises(JoinRefused, match=said) as refused:
            await cluster.start(number, 1)
        assert not refused.value.passes
        assert refused.value.code == CODE
    monkeypatch.setattr(registry, "FORMAT_LEVEL", 1)  # Past a coordinator that does not look.
    with pytest.raises(TooOld, match=f"n1: {said}"):
        await say_level(cluster.store, KEYS, ONE)
    assert await level_of(cluster.store) == before
    assert [entry.key for entry in (await cluster.store.range(KEYS.identities)).entries] == [
        KEYS.identity(ONE)
    ], "the new one was given no id"


async def test_what_a_newer_octad_has_put_beside_the_level_is_kept(cluster: Cluster) -> None:
    value = b'{"known":{"7":2},"newer":[1]}'
    await cluster.store.transact([], [Put(KEYS.format_level, value)])
    await cluster.start(1, 2)
    await level_in_use(cluster.store, 2)
    entry = await cluster.store.get(KEYS.format_level)
    assert entry is not None
    assert entry.value == b'{"level":2,"known":{"7":2,"1":2},"newer":[1]}'


async def test_nodes_that_start_at_once_all_get_said_what_they_know(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "FORMAT_LEVEL", 2)
    nodes = [NodeId(number) for number in range(1, 101)]
    await asyncio.gather(*(say_level(store, KEYS, each) for each in nodes))
    assert await level_of(store) == FormatLevelRecord(1, dict.fromkeys(nodes, 2))


async def test_a_node_waits_for_a_store_that_goes_away_before_it_has_said_what_it_knows(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "FORMAT_LEVEL", 2)
    transact, tries = store.transact, 0

    async def away(compares: Sequence[Compare], operations: Sequence[StoreOperation]) -> Outcome:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StoreUnavailable("no leader")
        return await transact(compares, operations)

    monkeypatch.setattr(store, "transact", away)
    await say_level(store, KEYS, ONE)
    assert await level_of(store) == FormatLevelRecord(1, {ONE: 2})


def test_a_store_that_is_made_anew_has_the_highest_level_that_anybody_knew() -> None:
    entries = {
        "pools/0": msgspec.json.encode(PoolRecord(PoolId(0), 1, 0)),
        "shards/0/0": encode_configuration(configuration(1, depth=0)),
    }
    kept = [
        ClusterSnapshot(
            SnapshotHeader(CLUSTER, each, incarnation(each)),
            {
                key: SnapshotEntry(key, value, 0, seen)
                for key, value in {
                    **entries,
                    "format-level": msgspec.json.encode(FormatLevelRecord(level)),
                }.items()
            },
            (0, seen),
        )
        for each, level, seen in ((ONE, 3, 10), (TWO, 2, 20))
    ]
    made = rebuild(CLUSTER, kept, None)
    assert made.entries["format-level"] == b'{"level":3}'


@pytest.mark.parametrize(
    "state", [None, b'{"known":{"1":1}}', b'{"level":2,"known":{"1":2,"7":2}}']
)
async def test_a_store_that_is_put_back_is_told_at_once_by_the_nodes_that_run(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch, state: bytes | None
) -> None:
    monkeypatch.setattr(registry, "FORMAT_LEVEL", 3)
    said = b'{"level":3,"known":{"1":3,"2":3}}'
    await store.transact([], [Put(KEYS.format_level, said)])
    nodes = [Running(store, ONE), Running(store, TWO)]
    for each in nodes:
        await each.follow()
    key = KEYS.format_level
    await store.transact([], [Delete(key) if state is None else Put(key, state)])
    async with asyncio.timeout(10):
        while {ONE: 3, TWO: 3}.items() - (record := await level_of(store)).known.items():
            await asyncio.sleep(POLL_S)
    assert record.level == 3
    assert [each.level for each in nodes] == [3, 3]
    for each in nodes:
        await each.stop()


async def test_a_node_that_came_to_a_store_that_was_put_back_and_knows_too_little_ends(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "FORMAT_LEVEL", 2)
    old = Running(store, TWO)
    await old.follow()
    monkeypatch.setattr(registry, "FORMAT_LEVEL", 3)
    await say_level(store, KEYS, ONE, 3)
    monkeypatch.setattr(registry, "FORMAT_LEVEL", 2)
    with pytest.raises(TooOld, match="n2: the cluster uses format level 3 and this octad knows 2"):
        raise await old.failure
    await old.stop()


async def test_a_node_remembers_the_level_in_use_over_a_restart_and_a_store_that_is_put_back(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    identity = Identity(CLUSTER, ONE, incarnation(1))
    for state in (b'{"level":3}', b'{"level":2}'):
        await store.transact([], [Put(KEYS.format_level, state)])
        mirror = Mirror(store, KEYS.prefix)
        snapshot = StoreSnapshot(tmp_path, identity, mirror)
        await mirror.start()
        snapshot.start()
        await snapshot.close()
        await mirror.stop()
    again = StoreSnapshot(tmp_path, identity, Mirror(store, KEYS.prefix))
    assert again.format_level() == 3
    await again.close()
    monkeypatch.setattr(registry, "FORMAT_LEVEL", 2)
    with pytest.raises(TooOld, match="uses format level 3 and this octad knows 2"):
        await say_level(store, KEYS, ONE, again.format_level())
    monkeypatch.setattr(registry, "FORMAT_LEVEL", 3)
    await say_level(store, KEYS, ONE, again.format_level())
    assert await level_of(store) == FormatLevelRecord(3, {ONE: 3})
