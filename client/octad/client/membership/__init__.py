"""The SDK's membership: be there, and see who is.

async with register("web", "10.0.0.5:8080", coordinator=url, token=token) as registration:
    ...
async for event in watch("web", coordinator=url):
    ...
"""

from __future__ import annotations

from octad.client.cluster.coordinator_calls import CallRefused, CoordinatorsUnreachable
from octad.client.cluster.service_records import BadRegistration, ServiceInstance
from octad.client.membership.own_instances import RegistrationEvent
from octad.client.membership.registering import Registration, open_session, register
from octad.client.membership.session import Session
from octad.client.membership.watching import ServiceEvent, watch, watch_keys

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
