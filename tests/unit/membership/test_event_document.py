"""Server-sent events as the coordinator writes them and the SDK reads them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.membership.event_document import (
    NO_VALUE,
    ClusterEvent,
    EventsDocument,
    SseMessage,
    SseReader,
    WatchToken,
    decode_token,
    encode_sse,
    encode_token,
)

EVENT = ClusterEvent("join", "services/web/a", 7, msgspec.Raw(b'{"a":"x: y"}'))


def test_what_a_message_is_depends_on_what_it_holds() -> None:
    documents = [
        EventsDocument(7, True, (EVENT,), token="ab-7"),
        EventsDocument(8, False, (ClusterEvent("leave", "services/web/a", 8, NO_VALUE),)),
        EventsDocument(9, False, token="ab-9"),
    ]
    messages = list(SseReader().feed(b"".join(encode_sse(document) for document in documents)))
    assert [(m.event, m.id) for m in messages] == [
        ("reset", "ab-7"),
        ("events", ""),
        ("progress", "ab-9"),
    ]
    decoded = [msgspec.json.decode(m.data, type=EventsDocument) for m in messages]
    assert [msgspec.json.encode(d) for d in decoded] == [msgspec.json.encode(d) for d in documents]


@given(st.lists(st.integers(1, 40)))
def test_how_the_network_cuts_the_bytes_makes_no_difference(cuts: list[int]) -> None:
    whole = (
        encode_sse(EventsDocument(7, True, (EVENT,), token="ab-7"))
        + b": a comment\n\n"
        + encode_sse(EventsDocument(8, False, token="ab-8")).replace(b"\n", b"\r\n")
    )
    reader, messages, position = SseReader(), list[SseMessage](), 0
    for cut in [*cuts, len(whole)]:
        messages.extend(reader.feed(whole[position : position + cut]))
        position += cut
    assert messages == list(SseReader().feed(whole))
    assert [m.id for m in messages] == ["ab-7", "ab-8"]


@given(st.text("0123456789abcdef", min_size=1, max_size=16), st.integers(0, 10**19 - 1))
def test_a_token_comes_back_as_it_was(life: str, revision: int) -> None:
    token = WatchToken(life, revision)
    assert decode_token(encode_token(token)) == token
    assert decode_token(str(revision)) == WatchToken("", revision)


@pytest.mark.parametrize("text", ["", "x", "-1", "ab-", "ab-1-2", "AB-1", "ab-1 ", "١", "9" * 20])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the token of an earlier answer"):
        decode_token(text)
