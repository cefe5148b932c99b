"""A process with instances of a service, each with a session of its own; to be killed or frozen.

    python -m tests.cluster.coordinator.membership_worker '<Task as JSON>'

It changes what they say of themselves now and then, and prints a JSON line for each first
registration and renewal that was acknowledged.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

import msgspec
from tests.cluster.coordinator.membership_check import Acknowledged

from octad.client.cluster.service_records import ServiceInstance
from octad.client.membership import CallRefused, CoordinatorsUnreachable, Session, open_session

CHANGE_S = (1.0, 8.0)  # Between two changes of one instance.
RETRY_S = 0.2


class Task(msgspec.Struct):
    """What a worker is to do."""

    urls: str
    token: str
    service: str
    names: tuple[str, ...]
    ttl_s: float


def main() -> None:
    asyncio.run(_all(msgspec.json.decode(sys.argv[1], type=Task)))


async def _all(task: Task) -> None:
    async with asyncio.TaskGroup() as group:
        for number, name in enumerate(task.names):
            group.create_task(_one(task, name, f"127.0.0.1:{10_000 + number}"))


async def _one(task: Task, name: str, address: str) -> None:
    """Registered for as long as the process lives."""
    record = ServiceInstance(service=task.service, instance=name, address=address)
    async with open_session(task.urls, task.token, ttl_s=task.ttl_s) as session:
        _report_renewals(session, name)
        sent_at = await _say(session, record)
        _report(name, sent_at)
        while True:
            await asyncio.sleep(random.uniform(*CHANGE_S))
            await _say(session, msgspec.structs.replace(record, weight=random.random()))


async def _say(session: Session, record: ServiceInstance) -> float:
    """For as long as it takes; when the try began that did it."""
    while True:
        sent_at = time.monotonic()
        try:
            await session.register(record)
            return sent_at
        except (CallRefused, CoordinatorsUnreachable) as error:
            print(f"{record.instance}: {error}", file=sys.stderr, flush=True)
            await asyncio.sleep(RETRY_S)


def _report(name: str, sent_at: float) -> None:
    print(msgspec.json.encode(Acknowledged(name, sent_at, time.monotonic())).decode(), flush=True)


def _report_renewals(session: Session, name: str) -> None:
    """Let every renewal of the session that is acknowledged be printed."""
    coordinators = session._coordinators
    write = coordinators.write

    async def reported(method: str, path: str, *rest: object, **named: object) -> bytes:
        sent_at = time.monotonic()
        answer: bytes = await write(method, path, *rest, **named)  # type: ignore[arg-type]
        if path.endswith("/renew"):
            _report(name, sent_at)
        return answer

    coordinators.write = reported  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
