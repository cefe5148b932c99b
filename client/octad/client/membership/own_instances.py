"""What a process wants to be listed, and how far the cluster is known to agree: no I/O.

    begin(name)            a write is sent: until it is settled no one knows what stands
    settle(name, record)   it was carried out, and so is whatever was sent before it
    unsettled()            what has to be written again, until it is settled
    renewing()             what a renewal is to compare; it comes to `compared` or `lost`

A write whose answer is lost may be carried out much later. So its instance stays unsettled, and
what the process believes is written again, under a higher number: then the lost one is worth
nothing.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from octad.client.cluster.service_records import ServiceInstance

InstanceState = Literal["new", "listed", "superseded", "lost"]


@dataclass(frozen=True, slots=True)
class RegistrationEvent:
    """What became of a registered instance without its owner's doing.

    `lost`: the cluster did not have it any more; it is being registered again. `superseded`: a
    newer process at its address has its name, until that one ends. `listed`: it is there again.
    """

    type: Literal["lost", "superseded", "listed"]
    service: str
    instance: str


@dataclass(slots=True)
class _Own:
    record: ServiceInstance | None = None  # As the owner believes it; None: not there.
    state: InstanceState = "new"  # As the owner was told.
    is_settled: bool = False
    write: int = 0


class OwnInstances:
    """Of one process. A name is `service/instance`."""

    def __init__(self) -> None:
        self._own: dict[str, _Own] = {}
        self._write = 0

    def __contains__(self, name: str) -> bool:
        return name in self._own

    def __len__(self) -> int:
        return len(self._own)

    def state(self, name: str) -> InstanceState:
        """What is known of it; "new" before anything is."""
        return self._own[name].state if name in self._own else "new"

    def begin(self, name: str) -> int:
        """The number of a write that is about to be sent."""
        own = self._own.setdefault(name, _Own())
        self._write += 1
        own.write, own.is_settled = self._write, False
        return self._write

    def give_up(self, name: str) -> None:
        """The owner wants it there no more."""
        self._own[name].record = None

    def settle(
        self, name: str, record: ServiceInstance | None, *, superseded: bool = False
    ) -> list[RegistrationEvent]:
        """The newest write of `name` was carried out: this stands. None: nothing does."""
        if record is None:
            del self._own[name]
            return []
        own = self._own[name]
        own.record, own.is_settled = record, True
        return self._become(name, superseded=superseded)

    def unsettled(self) -> Mapping[str, ServiceInstance | None]:
        """What must be written: the record that is believed, or None for what is not to be."""
        return {name: own.record for name, own in self._own.items() if not own.is_settled}

    def renewing(self) -> dict[str, int]:
        """What a renewal names, and the write that stands."""
        return {name: own.write for name, own in self._own.items() if own.is_settled}

    def compared(
        self, sent: Mapping[str, int], superseded: Container[str]
    ) -> list[RegistrationEvent]:
        """A renewal found all of `sent` listed but those; nothing of what was written meanwhile."""
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
        """Who was superseded had no place in the list to lose."""
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
