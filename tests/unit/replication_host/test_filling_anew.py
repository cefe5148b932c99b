"""A node with a damaged journal asks the store whether the others have all of it, and waits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from tests.unit.coordinator.cluster_records import CLUSTER, POOL, configuration, incarnation, node

from octad.coordinator.recovery.filling_anew import Obstacle
from octad.coordinator.schema.node_report import NodeReport, VerifiedCopies
from octad.coordinator.schema.placement_records import NodeSettings, PlacementKeys
from octad.coordinator.schema.records import IdentityRecord, PoolRecord, StoreKeys, TurnRecord
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import (
    Compare,
    Listing,
    Outcome,
    Put,
    Revision,
    StoreOperation,
)
from octad.sharding.ids import Epoch, NodeId, Seq, shard_id
from octad.sharding.map.shard_map import FormerMember, ShardConfiguration, encode_configuration
from octad.storage_node.journal import set_aside
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.record_format import Identity
from octad.storage_node.rebuild import filling_anew
from octad.storage_node.rebuild.filling_anew import FillingAnew

KEYS = StoreKeys(CLUSTER)
SHARD = shard_id(POOL, 0)
PATIENCE_S = 20.0


class SmallDisk(Disk):
    def free_bytes(self, path: Path) -> int:
        return 1


class Overtaken(EmbeddedStore):
    """`store`, but that `overtake` is awaited before the n-th look or write."""

    def __init__(
        self, store: EmbeddedStore, between: str, overtake: Callable[[], Awaitable[None]]
    ) -> None:
        self._store = store
        self._between = between
        self._overtake = overtake
        self._calls = Counter[str]()

    async def _count(self, call: str) -> None:
        self._calls[call] += 1
        if f"{call} {self._calls[call]}" == self._between:
            await self._overtake()

    async def range(self, prefix: str, revision: Revision | None = None) -> Listing:
        await self._count("look")
        return await self._store.range(prefix, revision)

    async def transact(
        self, compares: Sequence[Compare], operations: Sequence[StoreOperation]
    ) -> Outcome:
        await self._count("write")
        return await self._store.transact(compares, operations)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling_anew, "SETTLED_S", 0.5)
    monkeypatch.setattr(filling_anew, "LOOK_S", 0.01)
    monkeypatch.setattr(filling_anew, "COPIES_POLL_S", 0.01)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    """n1 and n4 have a shard that n2 and n3 had, too."""
    store = await EmbeddedStore.open(tmp_path / "store.sqlite")
    records: dict[str, msgspec.Struct] = {KEYS.pool(POOL): PoolRecord(POOL, 3, 0)}
    for number in (1, 4):
        records[KEYS.node(NodeId(number))] = node(number)
    for number in (1, 2, 3, 4, 5):
        records[KEYS.identity(NodeId(number))] = IdentityRecord(NodeId(number), incarnation(number))
    puts = [Put(key, msgspec.json.encode(record)) for key, record in records.items()]
    await store.transact([], puts)
    await verified(store, 2, 1, 4)
    yield store
    await store.close()


async def verified(store: EmbeddedStore, copies: int, *members: int, reported: int = 1) -> None:
    """The members of the shard now, and how many copies of it n1 says to be verified."""
    former = tuple(FormerMember(NodeId(n), incarnation(n), Seq(9)) for n in (2, 3))
    now: ShardConfiguration = configuration(*members, depth=0)
    if len(members) < 3:
        now = msgspec.structs.replace(now, last_full=former)
    led = {"0/0": VerifiedCopies(Epoch(reported), copies)}
    report = NodeReport(NodeId(1), "boot", led, {})
    row_now = Put(KEYS.shard(SHARD), encode_configuration(now))
    await store.transact([], [row_now, Put(KEYS.report(NodeId(1)), msgspec.json.encode(report))])


def anew(store: EmbeddedStore, number: int, data: Path, disk: Disk | None = None) -> FillingAnew:
    data.mkdir(exist_ok=True)
    return FillingAnew(store, Identity(CLUSTER, NodeId(number), incarnation(number)), data, disk)


async def whose_turn(store: EmbeddedStore) -> NodeId | None:
    entry = await store.get(KEYS.filled_anew)
    return None if entry is None else msgspec.json.decode(entry.value, type=TurnRecord).node


async def test_with_enough_other_copies_it_is_decided(tmp_path: Path, store: EmbeddedStore) -> None:
    assert await anew(store, 2, tmp_path / "n2").decide(runs=False) is None
    assert set_aside.is_decided(tmp_path / "n2", incarnation(2))
    assert await whose_turn(store) == 2


async def test_of_two_nodes_one_is_decided(tmp_path: Path, store: EmbeddedStore) -> None:
    found = await asyncio.gather(
        *(anew(store, n, tmp_path / f"n{n}").decide(runs=False) for n in (2, 3))
    )
    decided = [n for n, obstacle in zip((2, 3), found, strict=True) if obstacle is None]
    assert len(decided) == 1
    assert await whose_turn(store) == decided[0]
    there = [set_aside.is_decided(tmp_path / f"n{n}", incarnation(n)) for n in (2, 3)]
    assert sorted(there) == [False, True]


@pytest.mark.parametrize("between", ["look 1", "look 2", "look 3", "write 1"])
async def test_one_that_overtakes_another_at_any_step_is_the_only_one(
    tmp_path: Path, store: EmbeddedStore, between: str
) -> None:
    found: list[Obstacle | None] = []

    async def overtake() -> None:
        found.append(await anew(store, 2, tmp_path / "n2").decide(runs=False))

    slow = FillingAnew(
        Overtaken(store, between, overtake),
        Identity(CLUSTER, NodeId(3), incarnation(3)),
        tmp_path / "n3",
    )
    (tmp_path / "n3").mkdir()
    found.append(await slow.decide(runs=False))
    assert len([each for each in found if each is None]) == 1
    there = [set_aside.is_decided(tmp_path / f"n{n}", incarnation(n)) for n in (2, 3)]
    assert there == [each is None for each in found]


async def test_a_copy_that_goes_meanwhile_stops_it_and_gives_the_turn_back(
    tmp_path: Path, store: EmbeddedStore
) -> None:
    deciding = asyncio.create_task(anew(store, 2, tmp_path / "n2").decide(runs=False))
    async with asyncio.timeout(PATIENCE_S):
        while await whose_turn(store) is None:
            await asyncio.sleep(0.01)
    await verified(store, 2, 1, 4, reported=0)  # That epoch is over.
    found = await deciding
    assert found is not None
    assert found.passes
    assert set_aside.places(tmp_path / "n2") == []
    assert await whose_turn(store) is None


async def test_a_disk_without_room_for_both_keeps_what_it_has(
    tmp_path: Path, store: EmbeddedStore
) -> None:
    found = await anew(store, 2, tmp_path / "n2", SmallDisk()).decide(runs=False)
    assert found is not None
    assert not found.passes
    assert "to keep what is here beside a new copy takes 256.0 MiB, and 1 B" in found.why
    assert await whose_turn(store) is None


async def test_what_an_earlier_time_has_left_is_not_added_to(
    tmp_path: Path, store: EmbeddedStore
) -> None:
    filling = anew(store, 2, tmp_path / "n2")
    set_aside.place(tmp_path / "n2", "an earlier one").mkdir()
    found = await filling.decide(runs=False)
    assert found is not None
    assert not found.passes
    assert not set_aside.is_decided(tmp_path / "n2", incarnation(2))


async def test_it_is_deleted_once_every_copy_is_verified_again_and_no_sooner(
    tmp_path: Path, store: EmbeddedStore
) -> None:
    data = tmp_path / "n2"
    assert await anew(store, 2, data).decide(runs=False) is None
    there = set_aside.place(data, incarnation(2))
    (there / "superblock.json").write_text("{}")
    settings = PlacementKeys(KEYS).node_settings(NodeId(2))
    filling = anew(store, 5, data)
    ending = asyncio.create_task(filling.end())
    async with asyncio.timeout(PATIENCE_S):
        while not filling.in_place_of:
            await asyncio.sleep(0.01)
    for copies, members in ((2, (1, 4, 5)), (3, (1, 4))):
        await verified(store, copies, *members)
        await asyncio.sleep(0.8)  # Longer than all must be well for.
        assert there.exists()
        assert await store.get(settings) is None
    await verified(store, 3, 1, 4, 5)
    async with asyncio.timeout(PATIENCE_S):
        await ending
    assert not there.exists()
    known = await store.get(settings)
    assert known is not None
    assert msgspec.json.decode(known.value, type=NodeSettings).removed
    assert await whose_turn(store) is None
    assert filling.in_place_of == 0


async def test_a_store_that_makes_no_sense_decides_nothing(
    tmp_path: Path, store: EmbeddedStore
) -> None:
    filling = anew(store, 2, tmp_path / "n2")
    await store.transact([], [Put(KEYS.shard(SHARD), b"makes no sense")])
    found = await filling.decide(runs=False)
    assert found is not None
    assert "cannot be asked" in found.why
    assert await whose_turn(store) is None
