"""A watch that ends with its block, connection and all, also when the block is left early."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from octad.coordinator.store.interface import ConfigStore, EventBatch, Revision


@asynccontextmanager
async def watching(
    store: ConfigStore, prefix: str, after: Revision
) -> AsyncIterator[AsyncIterator[EventBatch]]:
    """`store.watch(prefix, after)` for the time of the block."""
    batches = store.watch(prefix, after)
    try:
        yield batches
    finally:
        if isinstance(batches, AsyncGenerator):
            await batches.aclose()
