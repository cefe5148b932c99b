"""The SDK while nodes freeze, answers are lost, processes fork, and callers give up."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from tests.cluster.client_sdk.faces import Open
from tests.cluster.client_sdk.tunnel import tunnels_to
from tests.harness.cluster_process import DevCluster, StartCluster

from octad import AsyncBucket, AsyncClient, CannotReach, DownloadFailed, WrongProtocol
from octad.client.calls.exchanges import READ_SILENCE_S

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024
LARGE = random.Random(8).randbytes(20 * MIB + 5)
KEYS = [f"k{number}" for number in range(30)]


async def test_with_hedging_no_read_waits_until_a_frozen_node_is_given_up(
    start_cluster: StartCluster, open_client: Open
) -> None:
    cluster = start_cluster()
    keys = cluster.access_key, cluster.secret_key
    async with open_client(None, *keys, cluster.coordinator, hedge=True) as client:
        bucket = await client.create_bucket("photos")
        for key in KEYS:
            await bucket.put(key, key.encode())
        for _ in range(3):  # So that it is known what is late.
            for key in KEYS:
                await bucket.get(key)
        os.kill(cluster.nodes[2].pid, signal.SIGSTOP)
        try:
            longest_s = 0.0
            for key in KEYS * 2:
                begin = time.monotonic()
                assert (await bucket.get(key)).data == key.encode()
                longest_s = max(longest_s, time.monotonic() - begin)
        finally:
            os.kill(cluster.nodes[2].pid, signal.SIGCONT)
        assert longest_s < READ_SILENCE_S


async def test_tls_is_spoken_where_its_authority_is_trusted_and_said_where_it_is_not(
    start_cluster: StartCluster, open_client: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = start_cluster(nodes=1, options=("--tls",))
    endpoint, keys = cluster.endpoint(), (cluster.access_key, cluster.secret_key)
    trusted = cluster.authority
    async with open_client(endpoint, *keys, authority_file=trusted) as client:
        bucket = await client.create_bucket("photos")
        await bucket.put("k", LARGE)
        assert (await bucket.get("k")).data == LARGE
    async with open_client(None, *keys, cluster.coordinator, authority_file=trusted) as client:
        assert (await client.bucket("photos").get("k", end=3)).data == LARGE[:3]
    async with open_client(endpoint, *keys) as client:
        with pytest.raises(CannotReach, match="authority_file="):
            await client.bucket("photos").get("k")
    async with open_client(endpoint.replace("https:", "http:"), *keys) as client:
        with pytest.raises(WrongProtocol, match="use https://"):
            await client.bucket("photos").get("k")
    # The blocking face would keep the proxy's loop from running.
    named = f"https://s3.localhost:{endpoint.rpartition(':')[2]}"
    async with tunnels_to(cluster.nodes[0].s3) as (proxy, heads):
        monkeypatch.setenv("HTTPS_PROXY", proxy)

        def get() -> bytes:
            async def got() -> bytes:
                async with open_client(named, *keys, authority_file=trusted) as client:
                    return (await client.bucket("photos").get("k")).data

            return asyncio.run(got())

        assert await asyncio.to_thread(get) == LARGE
    assert heads[0].startswith(b"CONNECT s3.localhost:")


@contextmanager
def losing_answers(target: str) -> Iterator[str]:
    """An endpoint before `target` that does what is asked for, and loses the first answer."""
    host, _, port = target.rpartition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    lost = threading.Event()

    def pump(source: socket.socket, sink: socket.socket, *, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if answers and not lost.is_set():
                    lost.set()
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((host, int(port)))
                there = threading.Thread(target=pump, args=(near, far), kwargs={"answers": False})
                back = threading.Thread(target=pump, args=(far, near), kwargs={"answers": True})
                there.start()
                back.start()
                pairs.append((near, far, there, back))

    pairs: list[tuple[socket.socket, socket.socket, threading.Thread, threading.Thread]] = []
    server = threading.Thread(target=serve)
    server.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert lost.is_set()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        server.join()
        for near, far, there, back in pairs:
            for end in (near, far):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            there.join()
            back.join()
            near.close()
            far.close()


async def test_a_write_whose_answer_was_lost_is_done_once_and_is_no_conflict_with_itself(
    cluster: DevCluster, bucket: AsyncBucket, open_client: Open
) -> None:
    keys = cluster.access_key, cluster.secret_key
    with losing_answers(cluster.nodes[0].s3) as endpoint:
        async with open_client(endpoint, *keys) as client:
            await client.bucket(bucket.name).put("new", b"1", if_none_match="*")
    await bucket.append("log", b"one ")
    with losing_answers(cluster.nodes[0].s3) as endpoint:
        async with open_client(endpoint, *keys) as client:
            assert (await client.bucket(bucket.name).append("log", b"two", offset=4)).size == 7
    assert (await bucket.get("log")).data == b"one two"


async def test_an_upload_is_taken_up_where_it_ended_though_its_source_has_changed(
    bucket: AsyncBucket,
) -> None:
    class Broken(Exception):
        pass

    def breaks_off() -> Iterator[bytes]:
        yield b"-" + LARGE[1 : 17 * MIB]  # The first part is another one later.
        raise Broken

    with pytest.raises(Broken):
        await bucket.put("k", breaks_off(), resume=True)
    assert not await bucket.exists("k")
    put = await bucket.put("k", LARGE, resume=True)
    assert put.etag.endswith("-3")
    assert (await bucket.get("k")).data == LARGE


async def test_a_full_disk_leaves_the_file_of_before(bucket: AsyncBucket, tmp_path: Path) -> None:
    path = tmp_path / "here"
    path.write_bytes(b"before")
    await bucket.put("k", LARGE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 * MIB, hard))
    try:
        with pytest.raises(DownloadFailed, match="make room"):
            await bucket.download("k", path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["here"]  # noqa: PTH208
    await bucket.download("k", path)
    assert path.read_bytes() == LARGE


async def test_tasks_that_are_cancelled_leave_nothing_behind(cluster: DevCluster) -> None:
    keys = cluster.access_key, cluster.secret_key
    async with AsyncClient(cluster.endpoint(), *keys) as client:
        bucket = await client.create_bucket(f"sdk-{uuid4().hex[:12]}")
        await bucket.put("k", LARGE)
        for turns in range(40):
            tasks = [
                asyncio.create_task(bucket.get("k")),
                asyncio.create_task(bucket.put("l", LARGE)),
            ]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert [node.in_flight for node in client.nodes] == [0]
        assert len(asyncio.all_tasks()) == 1
        assert (await bucket.get("k", end=5)).data == LARGE[:5]


FORKS = """
import os, sys
import octad

with octad.Client() as client:
    bucket = client.bucket(sys.argv[1])
    stream = bucket.stream("large")
    with stream:
        begun = stream.read(100)
        children = []
        for number in range(3):
            child = os.fork()
            if not child:
                for turn in range(40):
                    bucket.put(f"k{number}", b"%d" % turn)
                    assert bucket.get(f"k{number}").data == b"%d" % turn
                assert len(begun + stream.read()) == int(sys.argv[2])
                os._exit(0)
            children.append(child)
        for turn in range(40):
            assert bucket.get("small").data == b"small"
        assert len(begun + stream.read()) == int(sys.argv[2])
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
print("all is well")
"""


async def test_children_of_a_fork_and_their_parent_do_not_hear_each_others_answers(
    cluster: DevCluster, bucket: AsyncBucket
) -> None:
    await bucket.put("large", LARGE)
    await bucket.put("small", b"small")
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": cluster.endpoint(),
        "AWS_ACCESS_KEY_ID": cluster.access_key,
        "AWS_SECRET_ACCESS_KEY": cluster.secret_key,
    }
    environment.pop("OCTAD_COORDINATOR", None)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", "-c", FORKS, bucket.name, str(len(LARGE))],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("all is well\n", "")
