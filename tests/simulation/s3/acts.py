"""What a client does next, and the last reads of all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from tests.simulation.s3 import bucket_acts, listing_acts, object_acts, upload_acts
from tests.simulation.s3.clients import Clients

ACTS: dict[Callable[[Clients], Awaitable[None]], int] = {
    object_acts.put: 24,
    object_acts.read: 22,
    object_acts.delete: 8,
    object_acts.delete_several: 3,
    object_acts.copy: 6,
    object_acts.append: 8,
    listing_acts.list_keys: 8,
    upload_acts.upload: 14,
    bucket_acts.race: 12,
}


async def act(clients: Clients) -> None:
    """Any of them, by their weights."""
    (chosen,) = clients.random.choices(list(ACTS), list(ACTS.values()))
    clients.counts[chosen.__name__] += 1
    await chosen(clients)


async def read_everything(clients: Clients) -> None:
    """Once everything works again: what stands must be what was acknowledged."""
    await read_objects(clients)
    for name in clients.buckets.by_name:
        for key in bucket_acts.KEYS:
            await clients.surely(partial(bucket_acts.read, clients, name, key))
    for _ in range(len(listing_acts.KINDS) * 3):
        await clients.surely(partial(listing_acts.list_keys, clients))
    await clients.surely(partial(upload_acts.list_uploads, clients))


async def read_objects(clients: Clients) -> None:
    """All of them, whole."""
    for key in (*clients.keys.names, *clients.keys.logs):
        await clients.surely(partial(object_acts.read_key, clients, key, whole=True))
