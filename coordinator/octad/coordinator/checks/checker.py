"""Checks who wants it, while this coordinator leads, and writes down what has changed.

What it writes stands in the instance's own record, under the instance's lease, so that watchers are
told in order and it goes when the instance does. Each write compares the record, and that this
coordinator still leads.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from octad.client.cluster.service_records import InstanceCheck, ServiceInstance
from octad.client.runtime.background_task import start_background, stop_background
from octad.client.runtime.steady_clock import now
from octad.coordinator.checks.check_rules import Network, verdict
from octad.coordinator.checks.probes import probe
from octad.coordinator.membership.instance_checks import judged, told_of
from octad.coordinator.store.interface import (
    ConfigStore,
    KeyValue,
    LeaseExpired,
    ModRevisionIs,
    Put,
    Revision,
    StoreUnavailable,
)

CHECKS_AT_ONCE = 64  # Connections of the coordinator's own.
_LOOK_S = 0.5
_SERVICES = "services/"

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Checked:
    """An instance that is checked: how, when next, and how often in a row it has failed."""

    check: InstanceCheck
    address: str
    revision: Revision  # At which all of this stood in its record.
    due_at: float
    failures: int = 0
    is_running: bool = False


class Checker:
    """Use: `start()`, `await stop()`. `entries` are the public keys, by name."""

    def __init__(
        self,
        store: ConfigStore,
        entries: Callable[[], Mapping[str, KeyValue]],
        leadership: Callable[[], ModRevisionIs | None],
        networks: Sequence[Network],
    ) -> None:
        self._store = store
        self._entries = entries
        self._leadership = leadership
        self._networks = networks
        self._checked: dict[str, _Checked] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Without networks there is nothing to do."""
        if self._networks:
            self._task = start_background(self._run(), "checks of services")

    async def stop(self) -> None:
        if self._task is not None:
            await stop_background(self._task)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._leadership() is None:
                self._checked.clear()
                continue
            self._look()
            for name, checked in sorted(self._checked.items(), key=lambda item: item[1].due_at):
                if len(self._running) >= CHECKS_AT_ONCE or checked.due_at > now():
                    break
                if not checked.is_running:
                    self._begin(name, checked)

    def _look(self) -> None:
        """Who is to be checked: those that changed their address or check begin anew."""
        entries = self._entries()
        for name in self._checked.keys() - entries.keys():
            del self._checked[name]
        for name, entry in entries.items():
            if not name.startswith(_SERVICES) or b'"check"' not in entry.value:
                self._checked.pop(name, None)
                continue
            known = self._checked.get(name)
            if known is None or known.revision != entry.mod_revision:
                self._take(name, entry, known)

    def _take(self, name: str, entry: KeyValue, known: _Checked | None) -> None:
        """The record of an instance is new, or has changed."""
        instance = _instance_of(entry)
        if instance is None or instance.check is msgspec.UNSET:
            self._checked.pop(name, None)
            return
        check, told = instance.check, instance.check_passes
        if known is not None and (known.check, known.address) == (check, instance.address):
            known.revision = entry.mod_revision
            return
        spread_s = 0.0 if told is msgspec.UNSET else check.interval_s
        due_at = now() + spread_s * random.random()  # A new leader begins with all of them.
        self._checked[name] = _Checked(check, instance.address, entry.mod_revision, due_at)

    def _begin(self, name: str, checked: _Checked) -> None:
        checked.is_running = True
        checked.due_at = now() + checked.check.interval_s
        task = asyncio.create_task(self._check(name, checked), name=f"check of {name}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _check(self, name: str, checked: _Checked) -> None:
        try:
            passed = await probe(checked.address, checked.check, self._networks)
            checked.failures = 0 if passed else checked.failures + 1
            await self._tell(name, checked)
        except (StoreUnavailable, LeaseExpired) as error:
            log.info("what the check of %s has shown is not told yet: %s", name, error)
        finally:
            checked.is_running = False

    async def _tell(self, name: str, checked: _Checked) -> None:
        entry, leadership = self._entries().get(name), self._leadership()
        if entry is None or leadership is None or self._checked.get(name) is not checked:
            return
        told = told_of(entry.value)
        passes = verdict(told, checked.failures)
        if passes is None or passes == told:
            return
        put = Put(entry.key, judged(entry.value, passes), entry.lease)
        unchanged = ModRevisionIs(entry.key, entry.mod_revision)
        outcome = await self._store.transact([leadership, unchanged], [put])
        if outcome.succeeded:
            log.info("%s %s its check", name, "passes" if passes else "fails")


def _instance_of(entry: KeyValue) -> ServiceInstance | None:
    try:
        return msgspec.json.decode(entry.value, type=ServiceInstance)
    except msgspec.DecodeError:
        return None
