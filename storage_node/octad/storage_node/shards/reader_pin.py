"""How long dead extents wait for reads that began before they died.

Normally every read is given the *pin*, and no one is asked. On a full disk, every node's front door
is asked for the age of its oldest read: `heard` takes the answer. All times are of this node's
clock, which counts suspension; of another's only an age is used, stretched by what the two clocks
may differ in. A door that says at some moment after `asked` that its oldest read is `age` old has
none that began before `asked - age`, and that stays so, however late the answer arrives, whatever
becomes of the door. Reads of a door that does not answer are given the pin.
"""

from __future__ import annotations

from collections.abc import Collection

from octad.sharding.ids import NodeId
from octad.storage_node.replication.pair_leases import NEVER, RESTS_ON_ANY_CLOCK


class ReaderPin:
    """See the module."""

    def __init__(self, pin_s: float) -> None:
        self.pin_s = pin_s
        self._over: dict[NodeId, float] = {}  # Reads that began there before this are over.

    def heard(self, door: NodeId, asked: float, oldest_read_s: float) -> None:
        """The answer to what was `asked` then."""
        over = asked - oldest_read_s / RESTS_ON_ANY_CLOCK
        self._over[door] = max(over, self._over.get(door, NEVER))

    def over(self, now: float) -> float:
        """Reads that began before this are over, or have had the pin to finish."""
        return now - self.pin_s

    def over_at(self, doors: Collection[NodeId], listed: float, now: float) -> float:
        """The same by the doors' answers.

        `doors` were all that there were at `listed` or later: another's reads began after it.
        """
        self._over = {door: over for door, over in self._over.items() if door in doors}
        said = min((self._over.get(door, NEVER) for door in doors), default=NEVER)
        return max(min(listed, said), self.over(now))
