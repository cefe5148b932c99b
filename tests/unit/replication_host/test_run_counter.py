"""A node's disk is as new as the cluster has seen it, or it does not run."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import Compare, Outcome, StoreOperation, StoreUnavailable
from octad.sharding.ids import NodeId
from octad.storage_node.journal.data_directory import DataDirectory, RolledBack, new_incarnation
from octad.storage_node.node import run_counter as disk_run
from octad.storage_node.node.run_counter import begin_run

CLUSTER, NODE = "0123abcd", NodeId(3)
KEYS = StoreKeys(CLUSTER)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    store = await EmbeddedStore.open(tmp_path / "store.sqlite")
    yield store
    await store.close()


def new_directory(path: Path) -> Path:
    directory = DataDirectory.open(path, CLUSTER)
    directory.initialize(CLUSTER, NODE, new_incarnation())
    directory.close()
    return path


async def run(path: Path, store: EmbeddedStore) -> int:
    """The number of the run that begins."""
    directory = DataDirectory.open(path, CLUSTER)
    try:
        await begin_run(directory, NODE, store, KEYS)
        return directory.run
    finally:
        directory.close()


async def seen(store: EmbeddedStore) -> int:
    entry = await store.get(KEYS.run(NODE))
    return 0 if entry is None else msgspec.json.decode(entry.value, type=int)


async def test_disk_and_store_count_every_run(tmp_path: Path, store: EmbeddedStore) -> None:
    path = new_directory(tmp_path / "n3")
    for number in (1, 2, 3):
        assert await run(path, store) == number == await seen(store)


async def test_a_disk_that_is_put_back_as_it_was_before_a_run_is_refused(
    tmp_path: Path, store: EmbeddedStore
) -> None:
    path = new_directory(tmp_path / "n3")
    await run(path, store)
    older = Path(shutil.copytree(path, tmp_path / "older"))
    await run(path, store)
    for _ in range(2):  # To be told so changes nothing.
        with pytest.raises(RolledBack, match=f"{older} is an older copy"):
            await run(older, store)
    assert await run(path, store) == 3


async def test_a_store_that_is_older_than_the_disk_learns_its_number(
    tmp_path: Path, store: EmbeddedStore
) -> None:
    path = new_directory(tmp_path / "n3")
    for number in (1, 2):
        directory = DataDirectory.open(path, CLUSTER)
        directory.begin_run(0)  # And died before the store knew.
        directory.close()
        assert await seen(store) == 0, number
    assert await run(path, store) == 3 == await seen(store)


async def test_a_run_whose_number_may_be_in_the_store_takes_another_one(
    tmp_path: Path, store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    transact = store.transact

    async def happens_unheard(
        compares: Sequence[Compare], operations: Sequence[StoreOperation]
    ) -> Outcome:
        monkeypatch.setattr(store, "transact", transact)
        await transact(compares, operations)
        raise StoreUnavailable("the connection broke")

    monkeypatch.setattr(disk_run, "RETRY_S", 0)
    monkeypatch.setattr(store, "transact", happens_unheard)
    path = new_directory(tmp_path / "n3")
    assert await run(path, store) == 2 == await seen(store)
