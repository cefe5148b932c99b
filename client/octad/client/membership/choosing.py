"""Which instances of a service one wants, and one of them, in proportion to their weights.

wanted = Wanted(passing=True, zone="rack-1", labels={"tier": "front"})
chosen = choose(filter(wanted.matches, instances), random.random)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from msgspec import UNSET

from octad.client.cluster.service_records import ServiceInstance


@dataclass(frozen=True, slots=True)
class Wanted:
    """All of what is named has to be so. `passing`: it is well, and wants work."""

    passing: bool = False
    zone: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def matches(self, instance: ServiceInstance) -> bool:
        return (
            (not self.passing or passes(instance))
            and self.zone in (None, instance.zone)
            and all(instance.labels.get(name) == value for name, value in self.labels.items())
        )


def serves(instance: ServiceInstance) -> bool:
    """Whether it may be sent work at all, be it degraded. One with a check has to pass it."""
    is_checked = instance.check is UNSET or instance.check_passes is True
    return instance.health != "failing" and not instance.drain and is_checked


def passes(instance: ServiceInstance) -> bool:
    """Whether it is well, and wants new work."""
    return serves(instance) and instance.health == "ok"


def choose(
    instances: Iterable[ServiceInstance], draw: Callable[[], float]
) -> ServiceInstance | None:
    """One of them, as often as its weight says; None: there is none with a weight above 0.

    `draw` gives random numbers from 0 up to, but not, 1.
    """
    weighted = [instance for instance in instances if instance.weight > 0]
    if not weighted:
        return None
    ends = list(accumulate(instance.weight for instance in weighted))
    at = draw() * ends[-1]
    return next((i for i, end in zip(weighted, ends, strict=True) if at < end), weighted[-1])
