"""Swift's ring, by Swift's own builder, where its package is installed (`pip install swift`).

2^part_power partitions of the hash's *high* bits, devices with weights in regions and zones, one
replica of a partition moved a rebalance. The builder's random choices are seeded.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Protocol, cast

import numpy as np

from octad.sharding.assignment.assignment import PlacementNode
from octad.sharding.ids import NodeId
from octad.sharding.study.rivals.mixing import Hashes, Nodes
from octad.sharding.study.rivals.scheme import Placement, without_draining

PART_POWER = 12
REBALANCES_MAX = 10
SEED = 1
BYTES_PER_REPLICA = 2


class RingData(Protocol):
    """The parts of a built ring."""

    _replica2part2dev_id: Sequence[Sequence[int]]


class Builder(Protocol):
    """The part of swift.common.ring.RingBuilder that is used here."""

    devs: Sequence[Mapping[str, object] | None]

    def add_dev(self, dev: dict[str, object]) -> int: ...
    def remove_dev(self, dev_id: int) -> None: ...
    def set_dev_weight(self, dev_id: int, weight: float) -> None: ...
    def pretend_min_part_hours_passed(self) -> None: ...
    def rebalance(self, seed: int) -> tuple[int, float, int]: ...
    def get_ring(self) -> RingData: ...
    def to_dict(self) -> dict[str, object]: ...


class BuilderClass(Protocol):
    def __call__(self, part_power: int, replicas: int, min_part_hours: int) -> Builder: ...
    def from_dict(self, builder_data: dict[str, object]) -> Builder: ...


def is_installed() -> bool:
    """Whether Swift's package is there."""
    return importlib.util.find_spec("swift") is not None


def _builder_class() -> BuilderClass:
    return cast(BuilderClass, importlib.import_module("swift.common.ring").RingBuilder)


class SwiftRing(Placement):
    """A ring of 2^12 partitions."""

    def __init__(
        self, nodes: Sequence[PlacementNode], replicas: int, builder: Builder | None = None
    ) -> None:
        self.replicas = replicas
        self.builder = builder or _builder_class()(PART_POWER, replicas, 0)
        self._tell(without_draining(nodes))
        for _ in range(REBALANCES_MAX):
            self.builder.pretend_min_part_hours_passed()
            moved, _, _ = self.builder.rebalance(seed=SEED)
            if not moved:
                break
        table = np.array(self.builder.get_ring()._replica2part2dev_id, dtype=np.int64).T
        self.row_array = np.ascontiguousarray(table)
        self.rows = [tuple([NodeId(id_) for id_ in row]) for row in table.tolist()]

    def changed(self, nodes: Sequence[PlacementNode]) -> SwiftRing:
        builder = _builder_class().from_dict(deepcopy(self.builder.to_dict()))
        return SwiftRing(nodes, self.replicas, builder)

    def holders(self, hash_: int) -> tuple[NodeId, ...]:
        return self.rows[hash_ >> (64 - PART_POWER)]

    def holders_of_all(self, hashes: Hashes) -> Nodes:
        rows: Nodes = self.row_array[(hashes >> np.uint64(64 - PART_POWER)).astype(np.int64)]
        return rows

    def state_bytes(self) -> int:
        return BYTES_PER_REPLICA * self.replicas << PART_POWER

    def _tell(self, nodes: Sequence[PlacementNode]) -> None:
        """Make the builder's devices those of `nodes`; a device's id is its node's."""
        wanted = {int(node.id): node for node in nodes}
        known = {cast(int, dev["id"]) for dev in self.builder.devs if dev is not None}
        names = sorted({node.zone for node in nodes if node.zone})
        for id_ in sorted(known - set(wanted)):
            self.builder.remove_dev(id_)
        for id_, node in sorted(wanted.items()):
            if id_ in known:
                self.builder.set_dev_weight(id_, node.weight)
                continue
            zone = names.index(node.zone) if node.zone else len(names) + id_
            self.builder.add_dev(
                {
                    "id": id_,
                    "region": 1,
                    "zone": zone,
                    "ip": f"127.0.{id_ >> 8}.{id_ & 255}",
                    "port": 6200,
                    "device": "d",
                    "weight": node.weight,
                }
            )
