"""One request of a client and what comes back, without HTTP: values in, values out.

A door is a way into one node. In a simulation it leads through the simulated network; in a test of
the clients themselves it leads to a dictionary, or lies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from octad.storage_node.s3.answering.s3_handler import S3Handler
from octad.storage_node.s3.handlers.request import HeldBody, Request
from octad.storage_node.shards.object_store import StoreError


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as it leaves a client. `headers` have lower-case names."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """All of an answer. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoAnswer(Exception):
    """The node is gone, or takes too long: whether it did what was asked is not known."""


Door = Callable[[Sent], Awaitable[Reply]]
"""Raises NoAnswer."""


async def answered(handler: S3Handler, sent: Sent) -> Reply:
    """What the node's own handler answers, to be run where the node runs."""
    request = Request(sent.method, sent.target, dict(sent.headers), HeldBody(sent.body))
    answer = await handler.answer(request, handler.next_request_id())
    pieces = [bytes(answer.body)]
    if answer.stream is not None:
        try:
            async for piece in answer.stream:
                pieces.append(bytes(piece))
                await asyncio.sleep(0)  # Its client reads it in its own time.
        except (ConnectionError, StoreError) as error:  # The connection is cut in the middle.
            raise NoAnswer from error
    body = b"".join(pieces)
    assert len(body) == answer.length or sent.method == "HEAD" or answer.status == 304
    lines = (line.partition(": ") for line in answer.head.split("\r\n") if line)
    return Reply(answer.status, {name.lower(): value for name, _, value in lines}, body)
