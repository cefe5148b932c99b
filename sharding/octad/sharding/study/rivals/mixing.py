"""Hashes of hashes, the same in plain Python and in numpy.

The finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014; constants of Stafford's variant 13). A key's hash is already uniform; a rival that
needs more than one draws them from it with a salt.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Nodes = npt.NDArray[np.int64]

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mixed(hash_: int, salt: int) -> int:
    """A 64-bit hash of `hash_`, another one for every `salt`."""
    x = (hash_ + (salt + 1) * GOLDEN) & MASK
    x = (x ^ (x >> 30)) * _FIRST & MASK
    x = (x ^ (x >> 27)) * _SECOND & MASK
    return x ^ (x >> 31)


def mixed_all(hashes: Hashes, salt: int | Hashes) -> Hashes:
    """`mixed` of every hash; `salt` may be an array to broadcast against."""
    if isinstance(salt, int):
        step = np.uint64((salt + 1) * GOLDEN & MASK)
        x = hashes + step
    else:
        x = hashes + (salt + np.uint64(1)) * np.uint64(GOLDEN)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_FIRST)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_SECOND)
    mixed_: Hashes = x ^ (x >> np.uint64(31))
    return mixed_


def unit(hash_: int) -> float:
    """`hash_` as a number above 0 and at most 1, with 53 bits."""
    return ((hash_ >> 11) + 1) / (1 << 53)


def unit_all(hashes: Hashes) -> Floats:
    """`unit` of every hash."""
    numbers: Floats = ((hashes >> np.uint64(11)) + np.uint64(1)).astype(np.float64) / (1 << 53)
    return numbers
