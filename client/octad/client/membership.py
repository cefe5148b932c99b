"""The SDK's membership: be there, and see who is.

async with register("web", "10.0.0.5:8080", coordinator=url, token=token) as registration:
    ...
async for event in watch("web", coordinator=url):
    ...
"""

from __future__ import annotations

from octad.client.core.own_instances import RegistrationEvent
from octad.client.core.service_records import BadRegistration, ServiceInstance
from octad.client.shell.coordinator_calls import CallRefused, CoordinatorsUnreachable
from octad.client.shell.membership.registering import Registration, open_session, register
from octad.client.shell.membership.session import Session
from octad.client.shell.membership.watching import ServiceEvent, watch, watch_keys

__all__ = [
    "BadRegistration",
    "CallRefused",
    "CoordinatorsUnreachable",
    "Registration",
    "RegistrationEvent",
    "ServiceEvent",
    "ServiceInstance",
    "Session",
    "open_session",
    "register",
    "watch",
    "watch_keys",
]
