"""Implements `octad service register`: an instance that stays registered until it is stopped."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass

from octad.client.cluster.coordinator_calls import CallRefused, CoordinatorsUnreachable
from octad.client.cluster.service_records import BadRegistration, InstanceCheck
from octad.client.cluster.service_token import ServiceToken
from octad.client.membership.registering import register
from octad.client.runtime.command import CommandError
from octad.client.runtime.logs.log_lines import set_up_logging


@dataclass(frozen=True, slots=True)
class Asked:
    """The options as typed."""

    service: str
    address: str
    instance: str | None
    ttl_s: float
    zone: str
    weight: float
    version: str
    labels: dict[str, str]
    check: InstanceCheck | None
    coordinator: str
    token: ServiceToken


def run_registration(asked: Asked) -> int:
    """Returns 0 after SIGTERM or SIGINT, when the instance has left; raises CommandError."""
    set_up_logging()
    try:
        asyncio.run(_run(asked))
    except (BadRegistration, ValueError) as error:
        raise CommandError(str(error), "correct it: octad service register --help", 2) from error
    except CallRefused as error:
        fix = "name it with --instance" if error.code == "instance-taken" else "correct it"
        raise CommandError(str(error), fix) from error
    except CoordinatorsUnreachable as error:
        raise CommandError(str(error), "start one, or correct --coordinator and --token") from error
    return 0


async def _run(asked: Asked) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with register(
        asked.service,
        asked.address,
        coordinator=asked.coordinator,
        token=asked.token,
        instance=asked.instance,
        ttl_s=asked.ttl_s,
        zone=asked.zone,
        weight=asked.weight,
        version=asked.version,
        labels=asked.labels,
        check=asked.check,
    ) as registration:
        record = registration.record
        name = f"{record.service}/{record.instance}"
        print(f"{name} is registered and ready; Ctrl-C withdraws it", flush=True)
        await stop.wait()
