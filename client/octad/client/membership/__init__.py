"""The SDK's membership: be there, and see who is.

async with register("web", "10.0.0.5:8080", coordinator=url, token=token) as registration:
    ...
async for event in watch("web", coordinator=url):
    ...
async with lock("reindex", coordinator=url, token=token) as held:
    ...
"""

from __future__ import annotations

from octad.client.cluster.coordinator_calls import CallRefused, CoordinatorsUnreachable
from octad.client.cluster.service_records import BadRegistration, InstanceCheck, ServiceInstance
from octad.client.membership.choosing import Wanted, choose, passes, serves
from octad.client.membership.lock_records import BadLock, LockHolder
from octad.client.membership.locking import Lock, hold, lock, watch_lock
from octad.client.membership.own_instances import RegistrationEvent
from octad.client.membership.registering import Registration, open_session, register
from octad.client.membership.session import Session
from octad.client.membership.watching import ServiceEvent, watch, watch_keys

__all__ = [
    "BadLock",
    "BadRegistration",
    "CallRefused",
    "CoordinatorsUnreachable",
    "InstanceCheck",
    "Lock",
    "LockHolder",
    "Registration",
    "RegistrationEvent",
    "ServiceEvent",
    "ServiceInstance",
    "Session",
    "Wanted",
    "choose",
    "hold",
    "lock",
    "open_session",
    "passes",
    "register",
    "serves",
    "watch",
    "watch_keys",
    "watch_lock",
]
