"""Server-sent events as the coordinator writes them and the SDK reads them."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from octad.client.core.event_document import (
    NO_VALUE,
    ClusterEvent,
    EventsDocument,
    SseMessage,
    SseReader,
    encode_sse,
)

EVENT = ClusterEvent("join", "services/web/a", 7, msgspec.Raw(b'{"a":"x: y"}'))


def test_what_a_message_is_depends_on_what_it_holds() -> None:
    documents = [
        EventsDocument(7, True, (EVENT,)),
        EventsDocument(8, False, (ClusterEvent("leave", "services/web/a", 8, NO_VALUE),)),
        EventsDocument(9, False),
    ]
    messages = list(SseReader().feed(b"".join(encode_sse(document) for document in documents)))
    assert [(m.event, m.id) for m in messages] == [
        ("reset", "7"),
        ("events", "8"),
        ("progress", "9"),
    ]
    decoded = [msgspec.json.decode(m.data, type=EventsDocument) for m in messages]
    assert [msgspec.json.encode(d) for d in decoded] == [msgspec.json.encode(d) for d in documents]


@given(st.lists(st.integers(1, 40)))
def test_how_the_network_cuts_the_bytes_makes_no_difference(cuts: list[int]) -> None:
    whole = (
        encode_sse(EventsDocument(7, True, (EVENT,)))
        + b": a comment\n\n"
        + encode_sse(EventsDocument(8, False)).replace(b"\n", b"\r\n")
    )
    reader, messages, position = SseReader(), list[SseMessage](), 0
    for cut in [*cuts, len(whole)]:
        messages.extend(reader.feed(whole[position : position + cut]))
        position += cut
    assert messages == list(SseReader().feed(whole))
    assert [m.id for m in messages] == ["7", "8"]
