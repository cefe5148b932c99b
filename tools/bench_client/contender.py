"""One S3 library at work, in a process of its own: prints one JSON object of figures.

    contender.py LIBRARY TASK ENDPOINT ACCESS_KEY SECRET_KEY COORDINATOR

It runs with any environment's Python in which the library is installed.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

BUCKET, SMALL = "bench", b"x" * 4096
CALLS, ROUNDS, AT_ONCE, CONCURRENT = 200, 15, 64, 3000
MIB = 1024 * 1024

Call = Callable[[], object]
AsyncCall = Callable[[], Awaitable[object]]
LIBRARY, TASK, ENDPOINT, ACCESS_KEY, SECRET_KEY, COORDINATOR = sys.argv[1:7]


def cpu_us(calls: dict[str, Call]) -> dict[str, float]:
    """CPU of each call, the least of some rounds, in turn: other programs only add to it."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begin = time.process_time()
            for _ in range(CALLS):
                call()
            best[name] = min(best[name], (time.process_time() - begin) / CALLS * 1e6)
    return best


async def cpu_us_async(calls: dict[str, AsyncCall]) -> dict[str, float]:
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begin = time.process_time()
            for _ in range(CALLS):
                await call()
            best[name] = min(best[name], (time.process_time() - begin) / CALLS * 1e6)
    return best


def a_second(done: int, begin: float) -> float:
    return done / (time.perf_counter() - begin)


def threads(call: Call) -> float:
    """Calls a second of `AT_ONCE` threads."""
    each = CONCURRENT // AT_ONCE
    running = [
        threading.Thread(target=lambda: [call() for _ in range(each)]) for _ in range(AT_ONCE)
    ]
    begin = time.perf_counter()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return a_second(each * AT_ONCE, begin)


async def tasks(call: AsyncCall) -> float:
    """Calls a second of `AT_ONCE` tasks."""

    async def worker() -> None:
        for _ in range(CONCURRENT // AT_ONCE):
            await call()

    begin = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return a_second(CONCURRENT // AT_ONCE * AT_ONCE, begin)


class BareProtocol(asyncio.Protocol):
    """What asyncio itself costs: a write, and a future that is done when something comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.arrived.set_result(None)

    async def call(self, request: bytes) -> None:
        self.arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        await self.arrived


def bare_requests() -> dict[str, bytes]:
    """The bytes that octad sends for a GET and a PUT: no client can do without them."""
    from octad.client.calls.requests import Request, new_invocation
    from octad.client.http.transport import Address
    from octad.client.s3.sigv4 import Credentials

    host, port = ENDPOINT.removeprefix("http://").split(":")
    checked = {"x-amz-checksum-mode": "ENABLED"}
    requests = {
        "get": Request("GET", BUCKET, "k", headers=checked),
        "put": Request("PUT", BUCKET, "k", body=SMALL, checksum=True, invocation=new_invocation()),
    }
    made = {}
    for name, request in requests.items():
        head = request.head(
            Address(host, int(port)),
            Credentials(ACCESS_KEY, SECRET_KEY),
            region="us-east-1",
            now=time.time(),
            tries=1,
        )
        made[name] = head + bytes(request.body)
    return made


def octad_calls() -> dict[str, float]:
    import octad

    keys = ENDPOINT, ACCESS_KEY, SECRET_KEY
    host, port = ENDPOINT.removeprefix("http://").split(":")
    bare = bare_requests()

    def exchange(over: socket.socket, request: bytes) -> None:
        over.sendall(request)
        over.recv(65536)

    with octad.Client(*keys) as client, socket.create_connection((host, int(port))) as over:
        over.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bucket = client.bucket(BUCKET)
        figures = cpu_us(
            {
                "bare_get_us": lambda: exchange(over, bare["get"]),
                "bare_put_us": lambda: exchange(over, bare["put"]),
                "get_us": lambda: bucket.get("k"),
                "put_us": lambda: bucket.put("k", SMALL),
            }
        )

    async def asynchronous() -> None:
        loop = asyncio.get_running_loop()
        transport, over = await loop.create_connection(BareProtocol, host, int(port))
        async with octad.AsyncClient(*keys) as client:
            bucket = client.bucket(BUCKET)
            found = await cpu_us_async(
                {
                    "async_bare_get_us": lambda: over.call(bare["get"]),
                    "async_bare_put_us": lambda: over.call(bare["put"]),
                    "async_get_us": lambda: bucket.get("k"),
                    "async_put_us": lambda: bucket.put("k", SMALL),
                }
            )
            figures.update(found)
            figures["gets_s"] = await tasks(lambda: bucket.get("k"))
        transport.close()

    asyncio.run(asynchronous())
    return figures


def boto3_client() -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=ENDPOINT,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=AT_ONCE),
    )


def boto3_calls() -> dict[str, float]:
    client = boto3_client()

    def get() -> object:
        return client.get_object(Bucket=BUCKET, Key="k")["Body"].read()

    def put() -> object:
        return client.put_object(Bucket=BUCKET, Key="k", Body=SMALL)

    return {**cpu_us({"get_us": get, "put_us": put}), "gets_s": threads(get)}


def obstore_calls() -> dict[str, float]:
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        BUCKET,
        endpoint=ENDPOINT,
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )

    async def get() -> object:
        return await (await obstore.get_async(store, "k")).bytes_async()

    calls: dict[str, Call] = {
        "get_us": lambda: obstore.get(store, "k").bytes(),
        "put_us": lambda: obstore.put(store, "k", SMALL),
    }
    return {**cpu_us(calls), "gets_s": asyncio.run(tasks(get))}


def octad_large() -> dict[str, float]:
    """A large object up and down, as a stream: how fast, and by how much memory grew."""
    import octad

    size = int(os.environ["BENCH_LARGE_MIB"]) * MIB
    block = os.urandom(MIB)

    def blocks() -> Iterator[bytes]:
        for _ in range(size // MIB):
            yield block

    with octad.Client(ENDPOINT, ACCESS_KEY, SECRET_KEY, COORDINATOR) as client:
        bucket = client.bucket(BUCKET)
        bucket.put("large", (block for _ in range(64)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begin = time.perf_counter()
        bucket.put("large", blocks())
        up = a_second(size // MIB, begin)
        begin = time.perf_counter()
        with bucket.stream("large") as stream:
            assert sum(map(len, stream)) == size
        streamed = a_second(size // MIB, begin)
        begin = time.perf_counter()
        bucket.download("large", os.environ["BENCH_FILE"])
        down = a_second(size // MIB, begin)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        bucket.delete("large")
    return {"up": up, "down": down, "streamed": streamed, "grown_mib": grown / 1024}


if __name__ == "__main__":
    print(json.dumps(globals()[f"{LIBRARY}_{TASK}"]()))
