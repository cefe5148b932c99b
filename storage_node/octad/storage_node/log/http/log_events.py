"""A partition's records as a stream of server-sent events, one a record: `id` is its offset.

A reader that comes again with `Last-Event-ID` goes on behind it. When nothing comes, a comment says
now and then that the stream lives. What ends the stream is its last event, `refused`.
"""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from octad.client.log.log_documents import EVENTS_TYPE
from octad.storage_node.log.http.log_forms import documents_from
from octad.storage_node.log.http.log_refusals import refused
from octad.storage_node.log.record_batch import split_batches
from octad.storage_node.log.topic_log import FETCH_BYTES_MAX, TopicLog
from octad.storage_node.shards.object_store import Topic, Unavailable

_WAIT_S: Final = 15.0
_FAILURES_MAX: Final = 10  # In a row; each has taken the patience of a request.


async def write_events(
    http: web.Request, log: TopicLog, topic: Topic, number: int, offset: int
) -> web.StreamResponse:
    """Until the reader has gone, or something ends the stream."""
    # What refuses the first fetch is an answer of its own.
    fetched, data = await log.fetch(topic, number, offset, FETCH_BYTES_MAX)
    stream = web.StreamResponse(headers={"Content-Type": EVENTS_TYPE, "Cache-Control": "no-store"})
    await stream.prepare(http)
    failures = 0
    while True:
        try:
            view = memoryview(data)
            events = [
                b"id: %d\ndata: %s\n\n" % (record.offset or 0, msgspec.json.encode(record))
                for record in documents_from(view, offset)
            ]
            for header, _ in split_batches(view):
                offset = header.base + header.last_delta + 1
            await stream.write(b"".join(events) or b": %d\n\n" % fetched.next)
            await log.topic(topic.name)  # It may be deleted.
            fetched, data = await log.fetch(
                topic, number, offset, FETCH_BYTES_MAX, _WAIT_S, fetched.next
            )
            failures = 0
        except Unavailable as error:
            failures += 1
            if failures >= _FAILURES_MAX:
                await _end(stream, error)
                return stream
            data = b""
        except ConnectionError:
            raise
        except Exception as error:
            await _end(stream, error)
            return stream


async def _end(stream: web.StreamResponse, error: Exception) -> None:
    await stream.write(b"event: refused\ndata: %s\n\n" % refused(error).body)
    await stream.write_eof()
