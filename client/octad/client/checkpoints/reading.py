"""Holds a checkpoint while someone restores it who does not own its job.

Retention may drop it meanwhile, and a collector then take its data, unless a begin's record names
it. So a reader makes a head of its own for as long as it reads, names the checkpoint in a record,
and then looks whether it is kept still. A job's owner has a head, and names it in its own record.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from octad.client.checkpoints.head_store import read_head, read_kept
from octad.client.checkpoints.place import Place
from octad.client.checkpoints.rules import heads
from octad.client.checkpoints.rules.documents import FORMAT, Base, Begin, sealed
from octad.client.checkpoints.rules.errors import CheckpointNotFound
from octad.client.errors import AccessDenied, OctadError

Hold = Callable[[Place, str, str], AbstractAsyncContextManager[None]]


async def check_kept(place: Place, job: str, checkpoint: str) -> None:
    """Raises CheckpointNotFound."""
    standing = await read_head(place, job)
    if standing is None or checkpoint not in (await read_kept(place, standing.head)).ids():
        raise CheckpointNotFound(
            f"checkpoint {checkpoint} of job {job} was dropped meanwhile",
            "restore another one: octad checkpoint ls",
        )


@asynccontextmanager
async def held(place: Place, job: str, checkpoint: str) -> AsyncGenerator[None, None]:
    """Raises CheckpointNotFound. With keys that may only read, it is not held."""
    nonce = place.token()
    reader = f"reader-{nonce}"
    head = heads.reading(reader, nonce, place.token(), place.now())
    head_key = place.layout.head(reader)
    record_key = place.layout.begin(reader, heads.owner(head))
    record = Begin(format=FORMAT, bases=(Base(job, checkpoint),))
    try:
        try:
            await place.store.put(head_key, sealed(head), if_none_match="*")
            await place.store.put(record_key, sealed(record))
        except AccessDenied:
            yield
            return
        await check_kept(place, job, checkpoint)
        yield
    finally:
        with suppress(OctadError):  # What stays is taken by a collector, after days.
            await place.store.delete([record_key])
            await place.store.delete([head_key])
