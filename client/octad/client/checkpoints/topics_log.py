"""octad's log, as checkpoints use it: fences at epochs, and pins at the offsets of checkpoints."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from octad.client.calls.caller import Caller
from octad.client.calls.settings import DEADLINE_S, Settings, settings_of
from octad.client.checkpoints.place import Pin
from octad.client.checkpoints.rules.errors import CheckpointFenced
from octad.client.log.topics_client import TopicsClient

AT_ONCE: Final = 8
URL_VARIABLE: Final = "OCTAD_LOG_URL"


class TopicsLog:
    """Implements `Log`. `place`: what sets the pins of this prefix apart from those of others."""

    def __init__(self, caller: Caller, place: str) -> None:
        self._caller = caller
        self._topics = TopicsClient(caller)
        self._place = place

    async def fence(self, job: str, token: int, topic: str, partition: int) -> None:
        stands = await self._topics.fence(topic, partition, job, token)
        if stands.token > token:
            raise CheckpointFenced(job, token, stands.token)

    async def pin(self, job: str, checkpoint: str, topic: str, partition: int, offset: int) -> None:
        await self._topics.pin(topic, partition, f"{self._place}{job}", checkpoint, offset)

    async def release(self, job: str, checkpoint: str, topic: str, partition: int) -> None:
        await self._topics.unpin(topic, partition, f"{self._place}{job}", checkpoint)

    async def pins(self) -> Sequence[Pin]:
        found: list[Pin] = []
        topics = await self._topics.all()
        reads = (
            partial(self._pins_of, topic.name, number)
            for topic in topics
            for number in range(topic.partitions)
        )

        async def jobs() -> AsyncGenerator[Callable[[], Coroutine[Any, Any, list[Pin]]], None]:
            for read in reads:
                yield read

        async with aclosing(self._caller.runtime.in_order(jobs(), AT_ONCE)) as results:
            async for pins in results:
                found += pins
        return found

    async def _pins_of(self, topic: str, partition: int) -> list[Pin]:
        return [
            Pin(pin.owner.removeprefix(self._place), pin.id, topic, partition)
            for pin in (await self._topics.pins(topic, partition)).pins
            if pin.owner.startswith(self._place)
        ]

    def close(self) -> None:
        self._caller.close()


def topics_log(url: str | None, caller: Caller, place: str) -> TopicsLog | None:
    """Of the nodes at `url`, with the keys of `caller`; None where none is named anywhere."""
    url = url or os.environ.get(URL_VARIABLE)
    if not url:
        return None
    return TopicsLog(Caller(_settings(url, caller.settings), caller.runtime), place)


def _settings(url: str, settings: Settings) -> Settings:
    found = settings_of(
        url,
        settings.credentials.access_key,
        settings.credentials.secret_key,
        coordinator=None,
        region=settings.region,
        authority_file=settings.authority_file,
        deadline_s=DEADLINE_S,
        hedge=False,
        environment={},
    )
    return found._replace(session_token=settings.session_token)
