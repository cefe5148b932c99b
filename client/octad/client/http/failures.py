"""Why no connection was made, in the same words over either face."""

from __future__ import annotations

import os

from octad.client.http.transport import Address, CannotConnect


def cannot_connect(address: Address, error: Exception) -> CannotConnect:
    """`error` is what connecting raised."""
    why = str(error) or "it timed out"
    # asyncio puts words of its own where the system's would be; resolvers' numbers are not errno's.
    if isinstance(error, OSError) and type(error).__module__ == "builtins" and error.errno:
        why = os.strerror(error.errno)
    return CannotConnect(f"no connection to {address.authority}: {why}")
