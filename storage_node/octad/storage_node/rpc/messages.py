"""Messages between nodes: small typed structs, each with a number that never changes its meaning.

    @message
    class Prepare(Message, frozen=True, tag=16):
        shard: ShardId
        epoch: Epoch

On the wire a message is a msgpack array: its tag, then its fields in order. Fields are only ever
appended, with a default, so that nodes of two versions understand each other: an older one skips
what it does not know, a newer one fills in what is missing. A request names the message that
answers it: `class ReadObject(Request[ObjectRead], …)`. A tag is never used again for something
else. Bulk bytes travel in the frame's body, beside the message, and are never part of it.

This file does not know what a message means or how it travels. Bytes: `docs/reference/rpc.md`.
"""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar, Union, cast, get_args

import msgspec

TAG_MAX = 127  # One byte of msgpack.


class BadMessage(ValueError):
    """Not a message of this version: an unknown tag, a missing field, a value of another type."""


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of every message. Subclasses name their `tag` and are registered by `@message`.

    `urgent`: small, and worthless when late. It passes the queued messages.
    """

    urgent: ClassVar[bool] = False


Reply = TypeVar("Reply", bound=Message)


class Request(Message, Generic[Reply], frozen=True, array_like=True, gc=False):
    """Base of every message that is answered, by a Reply."""

    reply: ClassVar[type[Message]]


MessageType = TypeVar("MessageType", bound=type[Message])

_type_of_tag: dict[int, type[Message]] = {}
_encoder = msgspec.msgpack.Encoder()
_decoders: list[msgspec.msgpack.Decoder[Message]] = []  # One once it is built, else none.

encode_message = _encoder.encode


def message(kind: MessageType) -> MessageType:
    """Registers `kind` under its tag."""
    tag = kind.__struct_config__.tag
    assert isinstance(tag, int), f"{kind.__name__} needs a small integer as its tag"
    assert 0 <= tag <= TAG_MAX, f"{kind.__name__}: tag {tag} is not within 0…{TAG_MAX}"
    taken = _type_of_tag.setdefault(tag, kind)
    assert taken is kind, f"tag {tag} of {kind.__name__} belongs to {taken.__name__}"
    _decoders.clear()
    if issubclass(kind, Request):
        (base,) = kind.__dict__["__orig_bases__"]
        (kind.reply,) = get_args(base)
    return kind


def reply_to(request: Request[Reply], answer: Message) -> Reply:
    """`answer`, if it is of the type that `request` is answered by; else raises BadMessage."""
    if not isinstance(answer, request.reply):
        raise BadMessage(f"{type(answer).__name__} is no answer to {type(request).__name__}")
    return cast(Reply, answer)


def decode_message(data: bytes | memoryview) -> Message:
    """The message that fills all of `data`; raises BadMessage."""
    try:
        return _decoders[0].decode(data)
    except IndexError:
        _decoders.append(msgspec.msgpack.Decoder(Union[tuple(_type_of_tag.values())]))  # noqa: UP007
        return decode_message(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadMessage(str(error)) from error


@message
class Ping(Message, frozen=True, tag=1):
    """A ping, sent by a connection that has received nothing for a while."""

    urgent: ClassVar[bool] = True


@message
class Pong(Message, frozen=True, tag=2):
    """Yes: the answer to a Ping."""

    urgent: ClassVar[bool] = True


@message
class Failure(Message, frozen=True, tag=3):
    """The answer to a request that was refused, or hit a bug: see RemoteError."""

    code: str
    text: str
