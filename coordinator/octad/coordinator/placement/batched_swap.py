"""Many keys changed by compare-and-swap, in few transactions: all shards of a node at once.

A transaction takes 128 comparisons and as many operations, and is all or nothing. So a batch that
loses is split in two and tried again: what no one else changed gets through, at the cost of about
two transactions for each halving, and the caller learns what was changed meanwhile, and reads
it again. The guards (a fence, a leader's token) stand in every transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from octad.coordinator.store.interface import Compare, ConfigStore, ModRevisionIs, Put, Revision
from octad.sharding.limits import STORE_TRANSACTION_BYTES_MAX, STORE_TRANSACTION_OPERATIONS_MAX


@dataclass(frozen=True, slots=True)
class KeySwap:
    """`key` becomes `value` if it was last changed at `revision` (0: if it does not exist).

    `also` has to hold, too, and `and_put` is done with it.
    """

    key: str
    revision: Revision
    value: bytes
    also: tuple[Compare, ...] = ()
    and_put: tuple[Put, ...] = ()

    @property
    def compares(self) -> tuple[Compare, ...]:
        return (ModRevisionIs(self.key, self.revision), *self.also)

    @property
    def puts(self) -> tuple[Put, ...]:
        return (Put(self.key, self.value), *self.and_put)


class GuardLost(Exception):
    """A guard does not hold any more: the caller may not write. Some swaps may have happened."""


async def swap_all(
    store: ConfigStore, guards: Sequence[Compare], swaps: Sequence[KeySwap]
) -> list[KeySwap]:
    """The swaps that lost, in order; all others are done.

    Raises GuardLost, or StoreUnavailable: then read again which are done.
    """
    lost: list[KeySwap] = []
    waiting = list(batches(guards, swaps))[::-1]
    while waiting:
        batch = waiting.pop()
        outcome = await store.transact(
            [*guards, *(compare for swap in batch for compare in swap.compares)],
            [put for swap in batch for put in swap.puts],
        )
        if outcome.succeeded:
            continue
        if guards and not (await store.transact(guards, [])).succeeded:
            raise GuardLost("someone else has taken over")
        if len(batch) == 1:
            lost.append(batch[0])
        else:
            middle = len(batch) // 2
            waiting += [batch[middle:], batch[:middle]]
    return lost


def batches(guards: Sequence[Compare], swaps: Sequence[KeySwap]) -> Iterator[Sequence[KeySwap]]:
    """`swaps` in order, each batch within what one transaction takes."""
    compares_max = STORE_TRANSACTION_OPERATIONS_MAX - len(guards)
    guards_bytes = sum(len(guard.key.encode()) for guard in guards)
    batch: list[KeySwap] = []
    compares, size_bytes = 0, guards_bytes
    for swap in swaps:
        keys = [each.key for each in (*swap.compares, *swap.puts)]
        swap_bytes = sum(len(key.encode()) for key in keys)
        swap_bytes += sum(len(put.value) for put in swap.puts)
        if batch and (
            compares + len(swap.compares) > compares_max
            or size_bytes + swap_bytes > STORE_TRANSACTION_BYTES_MAX
        ):
            yield batch
            batch, compares, size_bytes = [], 0, guards_bytes
        batch.append(swap)
        compares += len(swap.compares)
        size_bytes += swap_bytes
    if batch:
        yield batch
