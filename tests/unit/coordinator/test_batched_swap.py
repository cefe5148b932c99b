"""Many rows change hands in few transactions; what others changed meanwhile is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.coordinator.running_coordinator import open_cluster

from octad.coordinator.placement.batched_swap import GuardLost, KeySwap, batches, swap_all
from octad.coordinator.store.interface import (
    Compare,
    ModRevisionIs,
    Outcome,
    Put,
    Revision,
    StoreOperation,
)
from octad.coordinator.store.transaction_rules import check_transaction

ROWS = 300
CHANGED = (0, 7, 8, 150, 299)


async def test_all_but_the_lost_ones_are_done_in_few_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_cluster(tmp_path) as store:
        for start in range(0, ROWS, 100):
            await store.transact([], [Put(f"row/{n}", b"old") for n in range(start, start + 100)])
        fence = (await store.transact([], [Put("fence", b"1")])).revision
        guard = ModRevisionIs("fence", fence)
        rows = (await store.range("row/")).entries
        swaps = [KeySwap(row.key, row.mod_revision, b"new") for row in rows]
        for position in CHANGED:
            await store.transact([], [Put(swaps[position].key, b"theirs")])
        transact, count = store.transact, 0

        async def counted(
            compares: Sequence[Compare], operations: Sequence[StoreOperation]
        ) -> Outcome:
            nonlocal count
            count += 1
            return await transact(compares, operations)

        monkeypatch.setattr(store, "transact", counted)
        lost = await swap_all(store, [guard], swaps)
        assert lost == [swaps[position] for position in CHANGED]
        assert count < 120
        values = [entry.value for entry in (await store.range("row/")).entries]
        expected = [b"theirs" if n in CHANGED else b"new" for n in range(ROWS)]
        assert values == expected
        count = 0
        again = [KeySwap(r.key, r.mod_revision, b"3") for r in (await store.range("row/")).entries]
        assert await swap_all(store, [guard], again) == []
        assert count == 3


async def test_a_lost_guard_ends_it_at_once(tmp_path: Path) -> None:
    async with open_cluster(tmp_path) as store:
        await store.transact([], [Put("fence", b"1")])
        swaps = [KeySwap(f"row/{n}", Revision(0), b"new") for n in range(ROWS)]
        with pytest.raises(GuardLost):
            await swap_all(store, [ModRevisionIs("fence", Revision(1))], swaps)
        assert (await store.range("row/")).entries == []


@given(st.lists(st.integers(0, 200_000), max_size=40), st.integers(0, 3))
def test_every_batch_is_within_what_a_transaction_takes(sizes: list[int], guards: int) -> None:
    compares = [ModRevisionIs(f"guard/{n}", Revision(1)) for n in range(guards)]
    swaps = [KeySwap(f"row/{n}", Revision(1), bytes(size)) for n, size in enumerate(sizes * 8)]
    made = list(batches(compares, swaps))
    assert [swap for batch in made for swap in batch] == swaps
    for batch in made:
        check_transaction(
            [*compares, *(ModRevisionIs(swap.key, swap.revision) for swap in batch)],
            [Put(swap.key, swap.value) for swap in batch],
        )
