"""Doors that lie, each in one way: the clients' checks must find every one of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from urllib.parse import parse_qsl, unquote

from tests.simulation.s3.exchange import Door, Reply, Sent
from tests.unit.s3.memory_store import MemoryStore

from octad.sharding.ids import BucketId
from octad.storage_node.shards.object_store import StoredObject

Lie = Callable[["Liar", Sent], Awaitable[Reply]]
_OFTEN = 0.15
_NOTHING: Mapping[str, str] = {}
_ENTRY = re.compile(rb"<(Contents|Version|Upload|CommonPrefixes)>.*?</\1>", re.DOTALL)
_PUTS, _GETS = {"PUT"}, {"GET", "HEAD"}


class Liar:
    """Before a door to `store`."""

    def __init__(self, door: Door, store: MemoryStore, lie: Lie, random: Random) -> None:
        self.door = door
        self.store = store
        self.random = random
        self.told = 0
        self.before: dict[str, Reply] = {}  # By what was asked.
        self.stood: list[tuple[str, StoredObject]] = []
        self._lie = lie

    async def __call__(self, sent: Sent) -> Reply:
        return await self._lie(self, sent)

    def now(self) -> bool:
        """Whether to lie this time."""
        lies = self.random.random() < _OFTEN
        self.told += lies
        return lies

    def stands(self, sent: Sent) -> StoredObject | None:
        """The object that is asked for."""
        found = self._place(sent)
        return None if found is None else self.store.objects.get(found)

    def put_back(self, sent: Sent, stood: StoredObject | None) -> None:
        """It is as if nothing had happened to it."""
        place = self._place(sent)
        if place is not None:
            self.store.objects.pop(place, None)
            if stood is not None:
                self.store.objects[place] = stood

    def _place(self, sent: Sent) -> tuple[BucketId, bytes] | None:
        name, _, key = sent.target.partition("?")[0].lstrip("/").partition("/")
        bucket = self.store.buckets.get(name)
        return None if bucket is None else (bucket.id, unquote(key).encode())


def query_of(sent: Sent) -> dict[str, str]:
    return dict(parse_qsl(sent.target.partition("?")[2], keep_blank_values=True))


def of_object(sent: Sent, methods: set[str]) -> bool:
    """Whether that is a plain request of one object."""
    path, has_query, _ = sent.target.partition("?")
    return sent.method in methods and not has_query and path.count("/") > 1


def is_conditional(sent: Sent) -> bool:
    return not sent.headers.keys().isdisjoint(("if-match", "if-none-match"))


def is_append(sent: Sent) -> bool:
    return "x-amz-write-offset-bytes" in sent.headers


def is_completion(sent: Sent, reply: Reply) -> bool:
    return sent.method == "POST" and "uploadId" in query_of(sent) and reply.status == 200


def put_reply(sent: Sent) -> Reply:
    etag = hashlib.md5(sent.body, usedforsecurity=False).hexdigest()
    return Reply(200, {"etag": f'"{etag}"'}, b"")


def refusal(status: int, code: str) -> Reply:
    return Reply(status, _NOTHING, f"<Error><Code>{code}</Code></Error>".encode())


async def reads_what_was(liar: Liar, sent: Sent) -> Reply:
    """A read of some state before."""
    reply = await liar.door(sent)
    if of_object(sent, _GETS) and reply.status in (200, 404) and not is_conditional(sent):
        asked = sent.method + sent.target
        if asked in liar.before and liar.now():
            return liar.before[asked]
        liar.before[asked] = reply
    return reply


async def reads_nothing(liar: Liar, sent: Sent) -> Reply:
    if of_object(sent, _GETS) and liar.now():
        return refusal(404, "NoSuchKey")
    return await liar.door(sent)


async def flips_a_byte(liar: Liar, sent: Sent) -> Reply:
    reply = await liar.door(sent)
    if of_object(sent, {"GET"}) and reply.status == 200 and reply.body and liar.now():
        return Reply(200, reply.headers, bytes([reply.body[0] ^ 1]) + reply.body[1:])
    return reply


async def acknowledges_and_does_nothing(liar: Liar, sent: Sent) -> Reply:
    plain = of_object(sent, _PUTS) and sent.body and not is_conditional(sent) | is_append(sent)
    return put_reply(sent) if plain and liar.now() else await liar.door(sent)


async def undoes_what_it_acknowledged(liar: Liar, sent: Sent) -> Reply:
    """Before anyone else comes."""
    stood = liar.stands(sent)
    reply = await liar.door(sent)
    if of_object(sent, {"PUT", "DELETE"}) and reply.status < 300 and liar.now():
        liar.put_back(sent, stood)
    return reply


async def brings_back_what_was_replaced(liar: Liar, sent: Sent) -> Reply:
    """Long afterwards, as a request that took its time."""
    stood = liar.stands(sent)
    reply = await liar.door(sent)
    if of_object(sent, {"PUT", "DELETE"}) and stood is not None:
        liar.stood.append((sent.target, stood))
        target, old = liar.stood[0]
        if len(liar.stood) > 5:
            del liar.stood[0]
            if liar.now():
                liar.put_back(Sent("PUT", target, _NOTHING, b""), old)
    return reply


async def refuses_what_it_did(liar: Liar, sent: Sent) -> Reply:
    reply = await liar.door(sent)
    if of_object(sent, _PUTS) and is_conditional(sent) and reply.status == 200 and liar.now():
        return refusal(412, "PreconditionFailed")
    return reply


async def does_what_it_should_refuse(liar: Liar, sent: Sent) -> Reply:
    reply = await liar.door(sent)
    if of_object(sent, _PUTS) and is_conditional(sent) and reply.status in (404, 412):
        return put_reply(sent) if liar.now() else reply
    return reply


async def does_not_delete(liar: Liar, sent: Sent) -> Reply:
    if of_object(sent, {"DELETE"}) and not is_conditional(sent) and liar.now():
        return Reply(204, _NOTHING, b"")
    return await liar.door(sent)


async def does_not_delete_several(liar: Liar, sent: Sent) -> Reply:
    if query_of(sent).keys() == {"delete"} and liar.now():
        return Reply(200, _NOTHING, b"<DeleteResult/>")
    return await liar.door(sent)


async def does_not_copy(liar: Liar, sent: Sent) -> Reply:
    """It says that it did."""
    stood = liar.stands(sent)
    reply = await liar.door(sent)
    if "x-amz-copy-source" in sent.headers and reply.status == 200 and liar.now():
        liar.put_back(sent, stood)
    return reply


async def appends_anywhere(liar: Liar, sent: Sent) -> Reply:
    reply = await liar.door(sent)
    if is_append(sent) and reply.status == 400 and liar.now():
        end = int(sent.headers["x-amz-write-offset-bytes"]) + len(sent.body)
        head = {"etag": '"no-one-knows-2"', "x-amz-object-size": str(end)}
        return Reply(200, head, b"")
    return reply


async def forgets_an_append(liar: Liar, sent: Sent) -> Reply:
    stood = liar.stands(sent)
    reply = await liar.door(sent)
    if is_append(sent) and reply.status == 200 and liar.now():
        liar.put_back(sent, stood)
    return reply


async def lists_too_little(liar: Liar, sent: Sent) -> Reply:
    """Of a page that is the last."""
    reply = await liar.door(sent)
    is_last = b"<IsTruncated>false" in reply.body
    if is_last and not query_of(sent).keys() & {"uploads", "uploadId"} and liar.now():
        return Reply(200, reply.headers, _ENTRY.sub(b"", reply.body, count=1))
    return reply


async def lists_what_was(liar: Liar, sent: Sent) -> Reply:
    reply = await liar.door(sent)
    if "encoding-type" in query_of(sent) and reply.status == 200:
        if sent.target in liar.before and liar.now():
            return liar.before[sent.target]
        liar.before[sent.target] = reply
    return reply


async def hides_uploads(liar: Liar, sent: Sent) -> Reply:
    reply = await liar.door(sent)
    if query_of(sent).keys() == {"uploads"} and sent.method == "GET" and liar.now():
        return Reply(200, reply.headers, _ENTRY.sub(b"", reply.body, count=1))
    return reply


async def loses_parts(liar: Liar, sent: Sent) -> Reply:
    if "partNumber" in query_of(sent) and liar.now():
        return put_reply(sent)
    return await liar.door(sent)


async def does_not_abort(liar: Liar, sent: Sent) -> Reply:
    if sent.method == "DELETE" and "uploadId" in query_of(sent) and liar.now():
        return Reply(204, _NOTHING, b"")
    return await liar.door(sent)


async def completes_and_shows_nothing(liar: Liar, sent: Sent) -> Reply:
    stood = liar.stands(sent)
    reply = await liar.door(sent)
    if is_completion(sent, reply) and liar.now():
        liar.put_back(sent, stood)
    return reply


async def leaves_completed_uploads_open(liar: Liar, sent: Sent) -> Reply:
    before = dict(liar.store.uploads)
    reply = await liar.door(sent)
    if is_completion(sent, reply) and liar.now():
        liar.store.uploads = before
    return reply


async def deletes_full_buckets(liar: Liar, sent: Sent) -> Reply:
    reply = await liar.door(sent)
    name = sent.target.lstrip("/")
    if reply.status == 409 and sent.method == "DELETE" and liar.now():
        gone = liar.store.buckets.pop(name, None)
        of_it = [place for place in liar.store.objects if gone and place[0] == gone.id]
        for place in of_it:
            del liar.store.objects[place]
        return Reply(204, _NOTHING, b"")
    return reply


async def makes_no_bucket(liar: Liar, sent: Sent) -> Reply:
    is_bucket = sent.target.count("/") == 1 and "?" not in sent.target
    if sent.method == "PUT" and is_bucket and "raced" in sent.target and liar.now():
        return Reply(200, _NOTHING, b"")
    return await liar.door(sent)


LIES: dict[str, Lie] = {
    lie.__name__.replace("_", " "): lie
    for lie in (
        reads_what_was,
        reads_nothing,
        flips_a_byte,
        acknowledges_and_does_nothing,
        undoes_what_it_acknowledged,
        brings_back_what_was_replaced,
        refuses_what_it_did,
        does_what_it_should_refuse,
        does_not_delete,
        does_not_delete_several,
        does_not_copy,
        appends_anywhere,
        forgets_an_append,
        lists_too_little,
        lists_what_was,
        hides_uploads,
        loses_parts,
        does_not_abort,
        completes_and_shows_nothing,
        leaves_completed_uploads_open,
        deletes_full_buckets,
        makes_no_bucket,
    )
}
