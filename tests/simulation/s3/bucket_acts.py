"""Buckets that several clients make, fill, empty and delete at the same time."""

from __future__ import annotations

from tests.simulation.s3 import buckets as model
from tests.simulation.s3.clients import Clients
from tests.simulation.s3.keys import md5_of
from tests.simulation.s3.model_check import INFINITE, Step
from tests.simulation.s3.requests import Broken, Call, Refused, etag_of

KEYS = ("x", "y")


async def race(clients: Clients) -> None:
    """Something with one of them."""
    random = clients.random
    name, key, dice = (
        random.choice(list(clients.buckets.by_name)),
        random.choice(KEYS),
        random.random(),
    )
    if dice < 0.2:
        await _create(clients, name)
    elif dice < 0.4:
        await _delete(clients, name)
    elif dice < 0.6:
        await _put(clients, name, key)
    elif dice < 0.75:
        await _remove(clients, name, key)
    elif dice < 0.9:
        await read(clients, name, key)
    else:
        await _head(clients, name)


async def _create(clients: Clients, name: str) -> None:
    bucket = clients.buckets.by_name[name]
    step = bucket.asked(clients.now(), "create", model.creates)
    try:
        await clients.ask(Call("PUT", name), may_retry=False)
    except Refused as error:
        step.effect, step.what = model.finds_one, f"create: {error.code}"
        if error.code == "OperationAborted":  # It was there, and was deleted meanwhile.
            bucket.history.remove(step)
        elif error.code != "BucketAlreadyOwnedByYou":
            raise Broken(f"create {name}: {error}") from error
    step.returned = clients.now()


async def _delete(clients: Clients, name: str) -> None:
    bucket = clients.buckets.by_name[name]
    step = bucket.asked(clients.now(), "delete", model.deletes)
    was_unsure = bucket.may_be_taken_for_deleted(step.called, step.called)
    bucket.deletions[step] = INFINITE
    try:
        await clients.ask(Call("DELETE", name), may_retry=False)
    except Refused as error:
        step.what = f"delete: {error.code}"
        bucket.deletions[step] = clients.now()
        if error.code == "NoSuchBucket":
            step.effect = model.deletes_or_finds_none
            step.returned = INFINITE if was_unsure else clients.now()
            return
        step.effect = model.is_not_empty
        if error.code != "BucketNotEmpty":
            raise Broken(f"delete {name}: {error}") from error
    step.returned = bucket.deletions[step] = clients.now()


async def _put(clients: Clients, name: str, key: str) -> None:
    body = clients.keys.new_body(20)
    etag = clients.keys.names_body(md5_of(body), body)
    step = _asked(clients, name, f"put {key}: {etag}", model.puts(key, etag))
    await _answered(clients, name, step, Call("PUT", name, key, body=body))


async def _remove(clients: Clients, name: str, key: str) -> None:
    step = _asked(clients, name, f"remove {key}", model.puts(key, None))
    await _answered(clients, name, step, Call("DELETE", name, key))


async def _head(clients: Clients, name: str) -> None:
    bucket, called = clients.buckets.by_name[name], clients.now()
    try:
        await clients.ask(Call("HEAD", name))
    except Refused as error:
        if error.status != 404:
            raise Broken(f"head {name}: {error}") from error
        bucket.none_was_found(bucket.asked(called, "head", model.finds_none), clients.now())
        return
    bucket.asked(called, "head", model.finds_one).returned = clients.now()


async def read(clients: Clients, name: str, key: str) -> None:
    bucket, called = clients.buckets.by_name[name], clients.now()
    etag: str | None = None
    try:
        etag = etag_of(await clients.ask(Call("GET", name, key)))
    except Refused as error:
        if error.code == "NoSuchBucket":
            bucket.none_was_found(
                bucket.asked(called, f"get {key}", model.finds_none), clients.now()
            )
            return
        if error.code != "NoSuchKey":
            raise Broken(f"get {name}/{key}: {error}") from error
    now = clients.now()
    if etag is not None or not bucket.may_be_taken_for_deleted(called, now):
        bucket.asked(called, f"get {key}: {etag}", model.reads(key, etag)).returned = now


def _asked(clients: Clients, name: str, what: str, effect: model.Effect) -> Step:
    return clients.buckets.by_name[name].asked(clients.now(), what, effect)


async def _answered(clients: Clients, name: str, step: Step, call: Call) -> None:
    """200 or 204, or that there is no such bucket."""
    try:
        await clients.ask(call)
    except Refused as error:
        if error.code != "NoSuchBucket":
            raise Broken(f"{step.what} in {name}: {error}") from error
        bucket = clients.buckets.by_name[name]
        bucket.none_was_found(step, clients.now(), is_first=error.is_first)
        return
    step.returned = clients.now()
