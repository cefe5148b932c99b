"""While an empty node joins, it says at its RPC address which disk is there.

The last process at that address may have died with its own disk, and stays registered until its
lease ends. Only one process has an address, so a reader of this there knows that it is gone
(`octad.coordinator.membership.reachability_check`).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from octad.coordinator.schema.join_messages import join_proof


@asynccontextmanager
async def saying_who_joins(listener: socket.socket, incarnation: str) -> AsyncIterator[None]:
    """To everyone who connects to `listener`, which is closed in the end."""

    async def say(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(join_proof(incarnation))
        writer.close()

    server = await asyncio.start_server(say, sock=listener)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()
