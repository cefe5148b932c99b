"""What clients do to objects: write, delete, read, copy and append, with conditions and without."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from tests.simulation.s3.clients import BUCKET, Clients
from tests.simulation.s3.exchange import NoAnswer
from tests.simulation.s3.keys import md5_of, settled
from tests.simulation.s3.requests import (
    Broken,
    Call,
    Refused,
    deletion_of,
    etag_in,
    etag_of,
    failures_in,
    md5_header,
)

from octad.chaos.check.linearizability import ANY

_NOT_MET: Final = {"PreconditionFailed", "NoSuchKey"}
_CONDITIONAL: Final = 0.45


async def put(clients: Clients) -> None:
    """Some with a condition on what was seen last."""
    keys, random = clients.keys, clients.random
    key, body = random.choice(keys.names), keys.new_body(random.choice(clients.habits.sizes))
    etag = keys.names_body(md5_of(body), body)
    headers: dict[str, str] = {}
    if_match: str | None = ANY
    if random.random() < _CONDITIONAL:
        if_match = clients.seen.get(key)
        headers = {"if-none-match": "*"} if if_match is None else {"if-match": f'"{if_match}"'}
    done = keys.write(key, clients.now(), etag, if_match=if_match)
    try:
        reply = await clients.ask(Call("PUT", BUCKET, key, headers=headers, body=body))
    except Refused as error:
        if not headers or error.code not in _NOT_MET:
            raise Broken(f"PUT {key}: {error}") from error
        settled(done, clients.now(), refused=True)
        clients.seen.pop(key, None)
        clients.counts["refused"] += 1
        return
    settled(done, clients.now())
    if etag_of(reply) != etag:
        raise Broken(f"PUT {key} has ETag {etag_of(reply)}, not {etag}")
    clients.seen[key] = etag


async def delete(clients: Clients) -> None:
    keys, random = clients.keys, clients.random
    key = random.choice((*keys.names, *keys.logs))
    headers: dict[str, str] = {}
    if_match: str | None = ANY
    etag = clients.seen.get(key)
    value = clients.value_seen(key)
    if random.random() < _CONDITIONAL and value is not None:
        if_match, headers = value, {"if-match": f'"{etag}"'}
    done = keys.write(key, clients.now(), None, if_match=if_match, or_absent=True)
    try:
        await clients.ask(Call("DELETE", BUCKET, key, headers=headers))
    except Refused as error:
        if not headers or error.code != "PreconditionFailed":
            raise Broken(f"DELETE {key}: {error}") from error
        settled(done, clients.now(), refused=True)
        clients.counts["refused"] += 1
        return
    settled(done, clients.now())
    clients.seen.pop(key, None)


async def delete_several(clients: Clients) -> None:
    """Each of them by itself."""
    keys, called = clients.keys, clients.now()
    chosen = clients.random.sample(keys.names, 3)
    done = {key: keys.write(key, called, None) for key in chosen}
    body = deletion_of(chosen)
    call = Call("POST", BUCKET, query={"delete": ""}, headers=md5_header(body), body=body)
    failures = failures_in(await clients.ask(call))
    for key in chosen:
        if key not in failures:
            settled(done[key], clients.now())
            clients.seen.pop(key, None)
        elif failures[key] not in ("ServiceUnavailable", "InsufficientStorage"):
            raise Broken(f"DeleteObjects {key}: {failures[key]}")


async def read(clients: Clients) -> None:
    """GET or HEAD; some only if it has changed."""
    key = clients.random.choice((*clients.keys.names, *clients.keys.logs))
    await read_key(clients, key)


async def read_key(clients: Clients, key: str, *, whole: bool = False) -> None:
    """`whole`: all of its bytes, also where it has not changed."""
    keys, random, called = clients.keys, clients.random, clients.now()
    is_log, known, seen = key in keys.logs, clients.seen.get(key), clients.value_seen(key)
    method = "GET" if whole or is_log or random.random() < 0.7 else "HEAD"
    has_changed = seen and not whole and random.random() < 0.2
    unless = {"if-none-match": f'"{known}"'} if has_changed else {}
    try:
        reply = await clients.ask(Call(method, BUCKET, key, headers=unless), may_retry=False)
    except Refused as error:
        if error.status != 404 or error.code not in ("NoSuchKey", ""):
            raise Broken(f"{method} {key}: {error}") from error
        keys.read(key, called, clients.now(), None)
        clients.seen.pop(key, None)
        return
    if reply.status == 304:
        value = seen
    elif is_log:
        value = clients.saw_log(key, reply, reply.body)
    else:
        value = etag_of(reply)
        if not keys.is_known(value, reply.body if method == "GET" else None):
            raise Broken(f"{method} {key}: no one has written {value} with {reply.body[:40]!r}")
    keys.read(key, called, clients.now(), value)
    clients.seen[key] = etag_of(reply)


async def copy(clients: Clients) -> None:
    """Whatever the source is at that moment."""
    keys, called = clients.keys, clients.now()
    source, target = clients.random.sample(keys.names, 2)
    headers = {"x-amz-copy-source": f"{BUCKET}/{quote(source)}"}
    call = Call("PUT", BUCKET, target, headers=headers)
    try:
        reply = await clients.ask(call, may_retry=False)
    except Refused as error:
        if error.code != "NoSuchKey":
            raise Broken(f"copy {source} to {target}: {error}") from error
        keys.read(source, called, clients.now(), None)
        return
    except NoAnswer:
        keys.copied(called, source, target)
        raise
    now, etag = clients.now(), etag_in(reply)
    if not keys.is_known(etag):
        raise Broken(f"copy {source} to {target}: no one has written {etag}")
    settled(keys.write(target, called, etag), now)
    keys.read_body(source, called, now, keys.body(etag))


async def append(clients: Clients) -> None:
    """Where it was seen to end, or somewhere else."""
    keys, random = clients.keys, clients.random
    key = random.choice(keys.logs)
    item, body = keys.new_item()
    if random.random() < 0.2:
        await _begin_log(clients, key, item, body)
        return
    offset = clients.ends.get(key, 0)
    done = keys.append(key, clients.now(), item, offset)
    headers = {"x-amz-write-offset-bytes": str(offset)}
    try:
        reply = await clients.ask(Call("PUT", BUCKET, key, headers=headers, body=body))
    except Refused as error:
        if error.code != "InvalidWriteOffset":
            raise Broken(f"append to {key} at {offset}: {error}") from error
        settled(done, clients.now(), refused=True)
        clients.ends.pop(key, None)
        clients.counts["refused"] += 1
        return
    settled(done, clients.now())
    clients.seen.pop(key, None)
    if "etag" in reply.headers:  # A later try may not know it.
        clients.seen[key] = etag_of(reply)
    clients.ends[key] = int(reply.headers["x-amz-object-size"])
    if clients.ends[key] != offset + len(body):
        raise Broken(f"append to {key} at {offset}: it ends at {clients.ends[key]}")


async def _begin_log(clients: Clients, key: str, item: str, body: bytes) -> None:
    done = clients.keys.write(key, clients.now(), item)
    reply = await clients.ask(Call("PUT", BUCKET, key, body=body))
    settled(done, clients.now())
    clients.saw_log(key, reply, body)
