"""Registrations with late requests, from seeds; and what the model finds when the code is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from tests.unit.membership.registration_world import Violation, run_seed

from octad.client.cluster.service_records import (
    RegisterRequest,
    ServiceInstance,
    WithdrawRequest,
)
from octad.client.membership.session import Session
from octad.coordinator.membership import registrations, service_registry, sessions
from octad.coordinator.membership.registrations import Seen
from octad.coordinator.membership.service_registry import ServiceRegistry
from octad.coordinator.membership.session_writes import SessionSeen
from octad.coordinator.store.interface import Put, Revision, StoreOperation

SEEDS = 15
SEEDS_FOR_A_MUTANT = 60

Patch = tuple[Any, str, Any]  # (owner, attribute, what stands there instead)

_register, _withdraw = ServiceRegistry.register, ServiceRegistry.withdraw
_change, _registering = Seen.change, registrations.registering
_check_address = registrations._check_address


async def _register_whenever(
    registry: ServiceRegistry, service: str, instance: str, request: RegisterRequest
) -> object:
    uncounted = msgspec.structs.replace(request, number=None)
    return await _register(registry, service, instance, uncounted)


async def _withdraw_whenever(
    registry: ServiceRegistry, service: str, instance: str, request: WithdrawRequest
) -> None:
    uncounted = msgspec.structs.replace(request, number=None)
    await _withdraw(registry, service, instance, uncounted)


def _compares_nothing(
    seen: Seen, operations: Sequence[StoreOperation], number: int | None
) -> object:
    return dataclasses.replace(_change(seen, operations, number), compares=())


def _keeps_no_claims(seen: Seen, *rest: Any) -> object:
    change = _registering(seen, *rest)
    own = (seen.place.name, seen.session.key)
    kept = [o for o in change.operations if not isinstance(o, Put) or o.key in own]
    return dataclasses.replace(change, operations=kept)


def _looks_at_the_listed_one_alone(
    record: ServiceInstance, addresses: Sequence[str | None]
) -> None:
    _check_address(record, addresses[:1])


async def _goes_to_nobody(*_: object) -> None:
    return


async def _register_and_forget(session: Session, record: ServiceInstance) -> int:
    async with session._writing:
        return await session._put(record)


MUTANTS: dict[str, list[Patch]] = {
    "no number is compared": [(SessionSeen, "is_done", lambda *_: False)],
    "a late registration is honoured": [(ServiceRegistry, "register", _register_whenever)],
    "a late DELETE is honoured": [(ServiceRegistry, "withdraw", _withdraw_whenever)],
    "a renewal is blind": [(service_registry, "renewed", lambda *_: ([], []))],
    "what was seen is not compared": [(Seen, "change", _compares_nothing)],
    "a takeover leaves no claim": [(service_registry, "registering", _keeps_no_claims)],
    "only who is listed protects a name": [
        (registrations, "_check_address", _looks_at_the_listed_one_alone)
    ],
    "the last one to write is listed": [(registrations, "born", lambda _: Revision(1))],
    "another session's age is forgotten": [
        (owner, "age", lambda record, began: began) for owner in (registrations, sessions)
    ],
    "a free name goes to no one": [(ServiceRegistry, "relist", _goes_to_nobody)],
    "what failed is not written again": [(Session, "register", _register_and_forget)],
}


def test_every_live_instance_is_listed_and_nothing_late_changes_that() -> None:
    worlds = [run_seed(seed) for seed in range(SEEDS)]
    assert sum(world.late for world in worlds) > 10 * SEEDS, "carried out, and no one waited"
    assert sum(world.takeovers for world in worlds) > 2 * SEEDS


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_model_finds(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, attribute, instead in MUTANTS[mutant]:
        monkeypatch.setattr(owner, attribute, instead)
    for seed in range(SEEDS_FOR_A_MUTANT):
        try:
            run_seed(seed)
        except Violation:
            return
    pytest.fail(f"{SEEDS_FOR_A_MUTANT} seeds do not find that {mutant}")
