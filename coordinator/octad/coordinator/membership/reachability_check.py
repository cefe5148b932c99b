"""Can a node be reached where it says it is? Tried when it joins, before others rely on it.

A node listens on both of its addresses while it asks to join, so a connection must come about; what
is said on it is no one's business here.
"""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress

from octad.client.runtime.address import parse_address
from octad.coordinator.membership.admission import JoinRefused
from octad.coordinator.schema.join_messages import JoinRequest, join_proof

CONNECT_S_MAX = 2.0


async def check_reach(request: JoinRequest, from_where: str) -> None:
    """Raises JoinRefused unless both addresses take a connection from this coordinator."""
    await asyncio.gather(
        _connect("RPC", request.rpc_address, from_where),
        _connect("S3", request.s3_address, from_where),
    )


async def is_there(request: JoinRequest) -> bool:
    """Whether the joining node itself answers at its RPC address."""
    address, proof = parse_address(request.rpc_address), join_proof(request.incarnation)
    try:
        async with asyncio.timeout(CONNECT_S_MAX):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            with closing(writer):
                return await reader.readexactly(len(proof)) == proof
    except (OSError, EOFError, TimeoutError):
        return False


async def _connect(role: str, text: str, from_where: str) -> None:
    address = parse_address(text)
    try:
        async with asyncio.timeout(CONNECT_S_MAX):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except (OSError, TimeoutError) as error:
        why = f"no answer in {CONNECT_S_MAX:.0f} s" if isinstance(error, TimeoutError) else error
        raise JoinRefused(
            "unreachable",
            f"no one can reach this node at its {role} address {text}: {why}, tried by the "
            f"coordinator {from_where}; advertise the address that others see, or open the port",
        ) from error
    writer.close()
    with suppress(OSError):  # Whether it ended well is no one's business either.
        await writer.wait_closed()
