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
CALLS, ROUNDS, AT_ONCE, CONCURRENT = 300, 7, 64, 3000
MIB = 1024 * 1024

Call = Callable[[], object]
LIBRARY, TASK, ENDPOINT, ACCESS_KEY, SECRET_KEY, COORDINATOR = sys.argv[1:7]


def cpu_us(call: Call, calls: int = CALLS) -> float:
    """CPU of a call, the least of some rounds: other programs only add to it."""
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.process_time()
        for _ in range(calls):
            call()
        best = min(best, (time.process_time() - begin) / calls * 1e6)
    return best


async def cpu_us_async(call: Callable[[], Awaitable[object]]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.process_time()
        for _ in range(CALLS):
            await call()
        best = min(best, (time.process_time() - begin) / CALLS * 1e6)
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


async def tasks(call: Callable[[], Awaitable[object]]) -> float:
    """Calls a second of `AT_ONCE` tasks."""

    async def worker() -> None:
        for _ in range(CONCURRENT // AT_ONCE):
            await call()

    begin = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return a_second(CONCURRENT // AT_ONCE * AT_ONCE, begin)


def octad_calls() -> dict[str, float]:
    import octad
    from octad.client.calls.requests import Request, new_invocation
    from octad.client.http.transport import Address
    from octad.client.s3.sigv4 import Credentials

    keys = ENDPOINT, ACCESS_KEY, SECRET_KEY
    host, port = ENDPOINT.removeprefix("http://").split(":")

    def bare(request: Request) -> float:
        """The same bytes over a bare socket: what no client can do without."""
        credentials = Credentials(ACCESS_KEY, SECRET_KEY)
        address = Address(host, int(port))
        head = request.head(address, credentials, region="us-east-1", now=time.time(), tries=1)
        with socket.create_connection((host, int(port))) as bare_socket:
            bare_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def call() -> None:
                bare_socket.sendall(head + request.body)
                bare_socket.recv(65536)

            return cpu_us(call)

    def put() -> Request:
        return Request("PUT", BUCKET, "k", body=SMALL, checksum=True, invocation=new_invocation())

    figures = {
        "bare_get_us": bare(
            Request("GET", BUCKET, "k", headers={"x-amz-checksum-mode": "ENABLED"})
        ),
        "bare_put_us": bare(put()),
    }
    with octad.Client(*keys) as client:
        bucket = client.bucket(BUCKET)
        figures["get_us"] = cpu_us(lambda: bucket.get("k"))
        figures["put_us"] = cpu_us(lambda: bucket.put("k", SMALL))

    async def asynchronous() -> None:
        async with octad.AsyncClient(*keys) as client:
            bucket = client.bucket(BUCKET)
            figures["async_get_us"] = await cpu_us_async(lambda: bucket.get("k"))
            figures["async_put_us"] = await cpu_us_async(lambda: bucket.put("k", SMALL))
            figures["gets_s"] = await tasks(lambda: bucket.get("k"))

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

    return {
        "get_us": cpu_us(get),
        "put_us": cpu_us(lambda: client.put_object(Bucket=BUCKET, Key="k", Body=SMALL)),
        "gets_s": threads(get),
    }


def obstore_calls() -> dict[str, float]:
    import obstore  # type: ignore[import-not-found]
    from obstore.store import S3Store  # type: ignore[import-not-found]

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

    return {
        "get_us": cpu_us(lambda: obstore.get(store, "k").bytes()),
        "put_us": cpu_us(lambda: obstore.put(store, "k", SMALL)),
        "gets_s": asyncio.run(tasks(get)),
    }


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
