"""Watchers over HTTP: a long poll for each document, or one stream of server-sent events.

A stream lasts until the watcher goes or the coordinator stops; both ends then know where to go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from octad.client.membership.event_document import (
    LAST_EVENT_ID_HEADER,
    PUBLIC_KINDS,
    SSE_TYPE,
    WatchToken,
    decode_token,
)
from octad.coordinator.http.http_answers import BadParameter, json_answer, wait_of
from octad.coordinator.mirror.cluster_feed import ClusterFeed, Position

WATCHERS_MAX = 2_000

HEARTBEAT_S = 5.0  # A stream sends its position at least this often.


class TooManyWatchers(Exception):
    """The bound of one coordinator is reached; another one may have room."""


class HttpWatches:
    """The handler of the `events` endpoint."""

    def __init__(self, feed: ClusterFeed, watchers_max: int) -> None:
        self._feed = feed
        self._watchers_max = watchers_max
        self._streams: set[asyncio.Task[None]] = set()
        self.watchers = 0

    def stop(self) -> None:
        """End the streams: their watchers go on at another coordinator."""
        for stream in self._streams:
            stream.cancel()

    async def events(self, request: web.Request) -> web.StreamResponse:
        prefix = _prefix_of(request)
        token = _token_of(request)
        wait_s = wait_of(request)
        with self.room():
            await self._feed.current()
            position = await self._feed.position_of(token)
            if SSE_TYPE in request.headers.get("Accept", ""):
                return await self._stream(request, prefix, position)
            told = await self._feed.next(prefix, position, wait_s)
            gone = token is not None and token.life != self._feed.life
            status = web.HTTPGone.status_code if gone else web.HTTPOk.status_code
            return json_answer(told.document, status=status, age_s=told.document.age_s)

    @contextmanager
    def room(self) -> Iterator[None]:
        """For one watcher, of whatever kind; raises TooManyWatchers."""
        if self.watchers >= self._watchers_max:
            raise TooManyWatchers(f"{self._watchers_max} watchers are here already")
        self.watchers += 1
        try:
            yield
        finally:
            self.watchers -= 1

    async def _stream(
        self, request: web.Request, prefix: str, position: Position | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={
                "Content-Type": SSE_TYPE,
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",  # nginx would keep events back otherwise.
            }
        )
        await response.prepare(request)
        task = asyncio.create_task(self._tell(response, prefix, position))
        self._streams.add(task)
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            self._streams.discard(task)
        if not task.cancelled():
            task.result()
        return response

    async def _tell(
        self, response: web.StreamResponse, prefix: str, position: Position | None
    ) -> None:
        wait_s = 0.0  # The first answer comes at once: a watcher knows then that it watches.
        try:
            while True:
                told = await self._feed.next(prefix, position, wait_s)
                await response.write(self._feed.sse(prefix, position, told))
                position, wait_s = told.position, HEARTBEAT_S
        except ConnectionResetError:
            return  # The watcher has gone.


def watchers_max_of(connections_max: int) -> int:
    """A watcher's request has no end, so watchers leave some connections to everyone else."""
    return min(WATCHERS_MAX, connections_max * 3 // 4)


def _prefix_of(request: web.Request) -> str:
    prefix = request.query.get("prefix", "")
    if prefix and not any(
        kind.startswith(prefix) or (kind.endswith("/") and prefix.startswith(kind))
        for kind in PUBLIC_KINDS
    ):
        raise BadParameter(
            f"prefix={prefix[:80]}: there is nothing to watch; it begins with one of "
            + ", ".join(PUBLIC_KINDS)
        )
    return prefix


def _token_of(request: web.Request) -> WatchToken | None:
    text = request.query.get("after") or request.headers.get(LAST_EVENT_ID_HEADER)
    if not text:
        return None
    try:
        return decode_token(text)
    except ValueError as error:
        raise BadParameter(f"after: {error}") from error
