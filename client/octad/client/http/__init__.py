"""HTTP/1.1 as a client speaks it: one set of coroutines over blocking sockets or asyncio."""
