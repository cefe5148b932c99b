"""The instances that a process registers, and whether the cluster agrees: no I/O.

    begin(name)            a write is sent: until it is settled the listed state is unknown
    settle(name, record)   it was carried out; earlier writes can no longer take effect
    unsettled()            what has to be written again, until it is settled
    renewing()             what a renewal compares; it ends in `compared` or `lost`

A write whose answer is lost may be carried out much later. So its instance stays unsettled, and
its state is written again under a higher number, which voids the lost write.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from octad.client.cluster.service_records import ServiceInstance

InstanceState = Literal["new", "listed", "superseded", "lost"]


@dataclass(frozen=True, slots=True)
class RegistrationEvent:
    """A change of a registered instance that its owner did not make.

    `lost`: the cluster no longer had it; it is being registered again. `superseded`: a
    newer process at its address has its name, until that one ends. `listed`: it is there again.
    """

    type: Literal["lost", "superseded", "listed"]
    service: str
    instance: str


@dataclass(slots=True)
class _Own:
    record: ServiceInstance | None = None  # The wanted record; None: withdrawn.
    state: InstanceState = "new"  # As reported to the owner.
    is_settled: bool = False
    write: int = 0


class OwnInstances:
    """The instances of one process. A name is `service/instance`."""

    def __init__(self) -> None:
        self._own: dict[str, _Own] = {}
        self._write = 0

    def __contains__(self, name: str) -> bool:
        return name in self._own

    def __len__(self) -> int:
        return len(self._own)

    def state(self, name: str) -> InstanceState:
        """The instance's state; "new" while nothing is known."""
        return self._own[name].state if name in self._own else "new"

    def begin(self, name: str) -> int:
        """The number of a write that is about to be sent."""
        own = self._own.setdefault(name, _Own())
        own.write, own.is_settled = self.next_number(), False
        return own.write

    def next_number(self) -> int:
        """The number of a write that concerns no instance, and is about to be sent."""
        self._write += 1
        return self._write

    def give_up(self, name: str) -> None:
        """The owner wants it there no more."""
        self._own[name].record = None

    def settle(
        self, name: str, record: ServiceInstance | None, *, superseded: bool = False
    ) -> list[RegistrationEvent]:
        """The newest write of `name` was carried out; `record` is listed now. None: withdrawn."""
        if record is None:
            del self._own[name]
            return []
        own = self._own[name]
        own.record, own.is_settled = record, True
        return self._become(name, superseded=superseded)

    def unsettled(self) -> Mapping[str, ServiceInstance | None]:
        """The records to write again; None for one to withdraw."""
        return {name: own.record for name, own in self._own.items() if not own.is_settled}

    def renewing(self) -> dict[str, int]:
        """The names in a renewal, and the newest settled write."""
        return {name: own.write for name, own in self._own.items() if own.is_settled}

    def compared(
        self, sent: Mapping[str, int], superseded: Container[str]
    ) -> list[RegistrationEvent]:
        """A renewal found all of `sent` listed but these; writes since then are not concerned."""
        standing = [name for name in sent if self._stands(name, sent)]
        return [e for n in standing for e in self._become(n, superseded=n in superseded)]

    def lost(self, sent: Mapping[str, int], names: Iterable[str]) -> list[RegistrationEvent]:
        """A renewal that named `sent` found these gone."""
        return [e for name in names if self._stands(name, sent) for e in self._lose(name)]

    def session_lost(self) -> list[RegistrationEvent]:
        """None of them is there any more."""
        return [event for name in self._own for event in self._lose(name)]

    def _stands(self, name: str, sent: Mapping[str, int]) -> bool:
        own = self._own.get(name)
        return own is not None and own.is_settled and own.write == sent.get(name)

    def _become(self, name: str, *, superseded: bool) -> list[RegistrationEvent]:
        own = self._own[name]
        was_told = own.state
        own.state = "superseded" if superseded else "listed"
        if own.state == was_told or (own.state, was_told) == ("listed", "new"):
            return []
        return [_event(own.state, name)]

    def _lose(self, name: str) -> list[RegistrationEvent]:
        """A superseded instance was not listed, so it cannot be lost."""
        own = self._own[name]
        own.is_settled = False
        if own.state != "listed":
            return []
        own.state = "lost"
        return [_event("lost", name)]


def name_of(service: str, instance: str) -> str:
    return f"{service}/{instance}"


def _event(state: Literal["lost", "superseded", "listed"], name: str) -> RegistrationEvent:
    service, _, instance = name.partition("/")
    return RegistrationEvent(state, service, instance)
