"""Messages: nodes of two versions understand each other, and a tag has one meaning for ever."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.rpc.rpc_pairs import Note

from octad.storage_node.rpc.messages import (
    BadMessage,
    Failure,
    Message,
    Ping,
    Pong,
    decode_message,
    encode_message,
    message,
)


@given(st.builds(Failure, st.text(max_size=20), st.text(max_size=20)) | st.just(Ping()))
def test_what_is_encoded_is_decoded(sent: Message) -> None:
    assert decode_message(encode_message(sent)) == sent


def test_the_bytes_of_the_messages_are_these() -> None:
    assert encode_message(Ping()) == bytes.fromhex("91 01")
    assert encode_message(Pong()) == bytes.fromhex("91 02")
    assert encode_message(Failure("full", "disk")) == bytes.fromhex("93 03 a466756c6c a46469736b")


def test_an_older_node_skips_fields_it_does_not_know() -> None:
    assert decode_message(msgspec.msgpack.encode([126, 7, "text", b"new", {}])) == Note(7, "text")


def test_a_newer_node_fills_in_fields_that_were_not_sent() -> None:
    assert decode_message(msgspec.msgpack.encode([126, 7])) == Note(7, "")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x90",
        msgspec.msgpack.encode([125, 1]),  # A tag no one has.
        msgspec.msgpack.encode([126]),
        msgspec.msgpack.encode([126, "seven"]),
        msgspec.msgpack.encode({"number": 7}),
        msgspec.msgpack.encode([126, 7]) + b"\x00",
        b"\x93\x7e\x07\xa1\xff",  # Text that is not UTF-8.
        b"\xdd\xff\xff\xff\xff",
    ],
)
def test_anything_else_is_a_bad_message(data: bytes) -> None:
    with pytest.raises(BadMessage):
        decode_message(data)


@given(st.binary(max_size=60))
def test_noise_is_a_message_or_a_bad_message(noise: bytes) -> None:
    try:
        decoded = decode_message(noise)
    except BadMessage:
        return
    assert isinstance(decoded, Message)


def test_a_tag_is_given_once() -> None:
    class Impostor(Message, frozen=True, tag=126):
        pass

    with pytest.raises(AssertionError, match="tag 126 of Impostor belongs to Note"):
        message(Impostor)


def test_a_message_needs_a_small_tag() -> None:
    class Untagged(Message, frozen=True):
        pass

    class Large(Message, frozen=True, tag=128):
        pass

    for kind in (Untagged, Large):
        with pytest.raises(AssertionError):
            message(kind)
