"""The clients' load: a few hot keys of three classes, read, written, deleted, listed at random.

The randomness is the caller's, so that a seed repeats the same sequence of choices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from octad.chaos.load.history import Kind
from octad.sharding.limits import KIB, MIB, PART_BYTES_MIN

Draw = Callable[[], float]  # A random number in [0, 1).
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class KeyClass:
    """Keys of one size. `part_sizes` of more than one part: written as a multipart upload."""

    name: str
    count: int
    part_sizes: tuple[int, ...]
    share: float  # Shares of the requests for objects.

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(f"{self.name}-{number}" for number in range(self.count))

    @property
    def size(self) -> int:
        return sum(self.part_sizes)


CLASSES = (
    KeyClass("small", 24, (4 * KIB,), 0.94),
    KeyClass("large", 2, (8 * MIB,), 0.03),
    KeyClass("parts", 2, (PART_BYTES_MIN, 4 * KIB), 0.03),
)
SHARES = ((Kind.GET, 0.45), (Kind.PUT, 0.43), (Kind.DELETE, 0.07), (Kind.LIST, 0.05))


@dataclass(frozen=True, slots=True)
class Choice:
    """One request: a class, and one of its keys unless it is a LIST."""

    kind: Kind
    key_class: KeyClass
    keys: tuple[str, ...]


class Habit(Enum):
    """The kind of a client. There is one of each at every node."""

    PATIENT = 0  # Asks again for what failed: it shows how long one has to wait.
    RESTLESS = 1  # Turns to another key, so that a shard that does not answer leaves it at work.
    READER = 2  # The same, but never writes: it tests reads at a node that cannot write.


def choose(draw: Draw, habit: Habit, classes: Sequence[KeyClass] = CLASSES) -> Choice:
    """The next request of a client."""
    shares = [each for each in SHARES if habit is not Habit.READER or not each[0].is_write]
    kind = _pick(draw(), shares)
    if kind is Kind.LIST:
        return Choice(kind, classes[0], all_keys(classes))
    key_class = _pick(draw(), [(each, each.share) for each in classes])
    key = key_class.keys[int(draw() * key_class.count)]
    return Choice(kind, key_class, (key,))


def all_keys(classes: Sequence[KeyClass] = CLASSES) -> tuple[str, ...]:
    """Every key that a run touches."""
    return tuple(key for key_class in classes for key in key_class.keys)


def class_of(key: str) -> str:
    """The name of a key's class."""
    return key.rpartition("-")[0]


def _pick(number: float, weighted: Sequence[tuple[_T, float]]) -> _T:
    """The one whose share of the sum `number` falls into."""
    left = number * sum(weight for _, weight in weighted)
    for item, weight in weighted:
        left -= weight
        if left < 0:
            return item
    return weighted[-1][0]
