"""A share of memory: never more than there is, first come first served, and nothing gets lost."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from octad.storage_node.memory.body_budget import ByteGate
from octad.storage_node.memory.byte_share import ByteShare, Wish

SIZE = 100
steps = st.lists(
    st.one_of(
        st.tuples(st.just("want"), st.integers(1, 150)),
        st.tuples(st.sampled_from(["give back", "withdraw"]), st.integers(0, 1000)),
        st.tuples(st.just("resize"), st.integers(10, 200)),
    ),
    max_size=60,
)


@given(steps)
def test_whatever_is_taken_fits_and_is_granted_in_the_order_in_which_it_was_asked_for(
    history: list[tuple[str, int]],
) -> None:
    share = ByteShare(SIZE)
    taken: list[int] = []
    waiting: list[Wish] = []

    def granted(wishes: list[Wish]) -> None:
        assert wishes == waiting[: len(wishes)]
        del waiting[: len(wishes)]
        taken.extend(wish.size for wish in wishes)

    for what, number in history:
        if what == "want":
            if share.take(number):
                assert not waiting, "no one passes who waits"
                taken.append(number)
            else:
                waiting.append(share.wait(number))
        elif what == "give back" and taken:
            granted(list(share.give_back(taken.pop(number % len(taken)))))
        elif what == "withdraw" and waiting:
            granted(list(share.withdraw(waiting.pop(number % len(waiting)))))
        elif what == "resize":
            granted(list(share.resize(number)))
        assert share.used == sum(taken)
        assert share.waiting == sum(wish.size for wish in waiting)
        if waiting:
            assert taken, "one wish is granted however large it is"
            assert share.used + waiting[0].size > share.bytes_max, "there was room for the first"


def test_without_a_resize_there_is_never_more_in_use_than_there_is() -> None:
    share = ByteShare(SIZE)
    assert share.take(60)
    assert not share.take(41)
    assert share.take(40)
    assert share.used == SIZE


async def test_a_large_wish_is_not_starved_by_small_ones() -> None:
    gate = ByteGate(SIZE)
    await gate.take(50)
    order: list[str] = []

    async def take(name: str, size: int) -> None:
        await gate.take(size)
        order.append(name)

    tasks = [asyncio.create_task(take(*each)) for each in (("large", 90), ("small", 10))]
    await asyncio.sleep(0)
    assert order == [], "there was room for the small one, but the large one came first"
    assert gate.is_wanted
    gate.give_back(50)
    await asyncio.gather(*tasks)
    assert order == ["large", "small"]
    assert not gate.is_wanted


async def test_whoever_is_cancelled_while_waiting_or_just_then_leaves_nothing_taken() -> None:
    gate = ByteGate(SIZE)
    await gate.take(SIZE)
    waits, granted = asyncio.create_task(gate.take(30)), asyncio.create_task(gate.take(40))
    await asyncio.sleep(0)
    waits.cancel()
    gate.give_back(SIZE)
    granted.cancel()  # It has its bytes, and does not know it yet.
    await asyncio.gather(waits, granted, return_exceptions=True)
    assert (gate.share.used, gate.share.waiting) == (0, 0)
    await gate.take(SIZE)
