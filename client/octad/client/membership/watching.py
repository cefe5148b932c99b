"""Watches services: joins and leaves in one order, none lost or doubled over reconnects.

The first contact must succeed; afterwards a watch continues at whichever coordinator answers, from
its position, and leaves one that is cut off from the configuration store for another that is not.
A watch that cannot be continued yields a reset with the full state.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

import aiohttp
import msgspec

from octad.client.cluster.coordinator_calls import (
    CONNECT_S_MAX,
    CallRefused,
    Coordinators,
    CoordinatorsUnreachable,
)
from octad.client.cluster.coordinator_tls import says_tls_is_spoken, why_no_answer
from octad.client.cluster.refusal import RefusalMessage
from octad.client.cluster.service_records import ServiceInstance
from octad.client.cluster.view_age import OLD_S, is_old
from octad.client.membership.event_document import (
    EVENTS_PATH,
    SSE_TYPE,
    ClusterEvent,
    EventsDocument,
    SseReader,
    WatchToken,
    decode_token,
    encode_token,
)

SILENCE_S_MAX = 12.0  # A coordinator says something every five seconds.
PROBE_S_MAX = 1.5
_REFUSAL_BYTES_MAX = 4096
BACK_OFF_S_MIN = 0.05
BACK_OFF_S_MAX = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServiceEvent:
    """A change of one instance; or, for a reset, all `instances` that there are.

    `watch(…, after=token)` continues after this event: where several happened at one revision, the
    token moves on with the last of them. `age_s`: how long ago the configuration store had last
    confirmed the coordinator's view when it sent this.
    """

    type: Literal["reset", "join", "change", "leave"]
    revision: int
    token: str
    instance: ServiceInstance | None = None  # For a leave: its last known state.
    instances: tuple[ServiceInstance, ...] = ()
    age_s: float = 0.0


async def watch(
    service: str,
    *,
    coordinator: str,
    after: str | None = None,
    authority_file: str | None = None,
) -> AsyncGenerator[ServiceEvent, None]:
    """The events of one service; without `after`, the first one is a reset.

    `coordinator`: URLs separated by commas; `authority_file`: whom to trust with https
    (AWS_CA_BUNDLE). Only the first contact raises CoordinatorsUnreachable.
    """
    known: dict[str, ServiceInstance] = {}
    token = after or ""
    async with aclosing(
        watch_keys(
            f"services/{service}/",
            coordinator=coordinator,
            after=after,
            authority_file=authority_file,
        )
    ) as documents:
        async for document in documents:
            if document.reset:
                known = {e.key: _instance(e) for e in document.events}
                token, instances = document.token, tuple(known.values())
                yield ServiceEvent(
                    "reset", document.revision, token, None, instances, document.age_s
                )
                continue
            life = decode_token(document.token).life
            for position, event in enumerate(document.events):
                following = document.events[position + 1 : position + 2]
                if not following:
                    token = document.token
                elif following[0].revision > event.revision:
                    token = encode_token(WatchToken(life, event.revision))
                yield _service_event(event, known, token, document.age_s)


def _service_event(
    event: ClusterEvent, known: dict[str, ServiceInstance], token: str, age_s: float
) -> ServiceEvent:
    if event.type == "leave":
        instance = known.pop(event.key, None)
    else:
        instance = known[event.key] = _instance(event)
    return ServiceEvent(event.type, event.revision, token, instance, age_s=age_s)


def _instance(event: ClusterEvent) -> ServiceInstance:
    return msgspec.json.decode(event.value, type=ServiceInstance)


async def watch_keys(
    prefix: str, *, coordinator: str, after: str | None = None, authority_file: str | None = None
) -> AsyncGenerator[EventsDocument, None]:
    """Documents about all public keys under `prefix`: resets and changes, as they come.

    One without changes says that the view is old, every few seconds, or is so no longer.
    """
    coordinators = Coordinators(coordinator, authority_file=authority_file)
    token, met, failures, back_off_s = after, False, 0, BACK_OFF_S_MIN
    was_old = False
    try:
        while True:
            try:
                async with aclosing(_stream(coordinators, prefix, token)) as documents:
                    async for document in documents:
                        token, met, failures, back_off_s = (
                            document.token,
                            True,
                            0,
                            BACK_OFF_S_MIN,
                        )
                        old = is_old(document.age_s)
                        if document.reset or document.events or old or was_old:
                            yield document
                        was_old = old
                        if old and await _turn_to_current(coordinators, prefix, document.token):
                            break
                    else:
                        raise aiohttp.ClientPayloadError("the stream ended")
                continue
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                reason = why_no_answer(error)
            failures += 1
            log.info("watching %s at %s: %s", prefix, coordinators.url, reason)
            if not met and failures >= coordinators.count:
                where = coordinators.url
                raise CoordinatorsUnreachable(f"no coordinator answers: {where}: {reason}")
            coordinators.turn_to_next()
            if failures >= coordinators.count:
                await asyncio.sleep(back_off_s * random.uniform(0.5, 1.0))
                back_off_s = min(back_off_s * 2, BACK_OFF_S_MAX)
    finally:
        await coordinators.close()


async def _turn_to_current(coordinators: Coordinators, prefix: str, token: str) -> bool:
    """From a coordinator that is cut off from the store to one that is not, if there is one."""
    for url in coordinators.others:
        try:
            async with coordinators.session().get(
                url + EVENTS_PATH,
                params={"prefix": prefix, "after": token},
                timeout=aiohttp.ClientTimeout(PROBE_S_MAX),
                allow_redirects=False,
            ) as response:
                # The head has it; no body is read.
                age_s = float(response.headers.get("Age", OLD_S))
                if response.status == 200 and not is_old(age_s):
                    left = coordinators.url
                    log.warning(
                        "watching %s at %s: %s is cut off from the store", prefix, url, left
                    )
                    coordinators.turn_to(url)
                    return True
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            log.info("watching %s: cannot move to %s: %r", prefix, url, error)
    return False


async def _stream(
    coordinators: Coordinators, prefix: str, token: str | None
) -> AsyncGenerator[EventsDocument, None]:
    """One connection's documents."""
    query = {"prefix": prefix, **({} if token is None else {"after": token})}
    timeout = aiohttp.ClientTimeout(None, sock_connect=CONNECT_S_MAX, sock_read=SILENCE_S_MAX)
    async with coordinators.session().get(
        coordinators.url + EVENTS_PATH,
        params=query,
        headers={"Accept": SSE_TYPE},
        timeout=timeout,
        allow_redirects=False,
    ) as response:
        if response.status != 200:
            refusal = await response.content.read(_REFUSAL_BYTES_MAX)
            reason = _reason(refusal)
            if response.status == 404 or says_tls_is_spoken(refusal):
                reason = await coordinators.who_answers(coordinators.url, refusal)
            elif response.status == 400:
                raise CallRefused("bad-request", reason)
            raise aiohttp.ClientPayloadError(f"status {response.status}: {reason}")
        reader = SseReader()
        async for chunk in response.content.iter_any():
            for message in reader.feed(chunk):
                yield msgspec.json.decode(message.data, type=EventsDocument)


def _reason(refusal: bytes) -> str:
    """Describes an error answer, of a coordinator or of another server."""
    try:
        return msgspec.json.decode(refusal, type=RefusalMessage).reason
    except msgspec.DecodeError:
        return refusal.decode(errors="replace").strip()
