"""The instances of each service, grouped anew when something has changed, and someone asks."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from octad.client.cluster.service_records import ServiceInstance
from octad.coordinator.mirror.event_history import EventHistory
from octad.coordinator.store.interface import Revision

_SERVICES = "services/"


class ServicesByName:
    """What `history` shows; however often it is asked, each change costs one look at all keys."""

    def __init__(self, history: EventHistory) -> None:
        self._history = history
        self._as_of: Revision | None = None
        self._by_name: dict[str, list[ServiceInstance]] = {}

    def of(self, service: str) -> Sequence[ServiceInstance]:
        """The instances of one service; its name may be in any case."""
        if self._as_of != self._history.revision:
            self._as_of = self._history.revision
            self._by_name = {}
            for name, entry in self._history.entries.items():
                if name.startswith(_SERVICES):
                    instance = msgspec.json.decode(entry.value, type=ServiceInstance)
                    self._by_name.setdefault(instance.service.lower(), []).append(instance)
        return self._by_name.get(service.lower(), ())
