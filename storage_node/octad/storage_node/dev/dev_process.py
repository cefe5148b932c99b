"""The supervisor behind `octad dev`: configuration store and coordinator here, a process per node.

It restarts a node that dies, and stops all of them when it is stopped; they end with it when it is
killed. One that cannot start does not keep the others from serving what the cluster has. What it
prints is for people; `dev.json` says the same to scripts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from octad.client.cli.coordinator_option import DEV_STORE_FILE
from octad.client.cluster.join_token import JoinToken, decode_join_token
from octad.client.runtime.command import CommandError
from octad.client.runtime.listener import listen_on, take_port
from octad.client.runtime.logs.log_lines import set_up_logging
from octad.client.runtime.open_files import take_open_files
from octad.client.version import VERSION
from octad.coordinator.http.http_service import HttpService
from octad.coordinator.recovery.create_cluster import (
    FIRST_POOL,
    PoolDiffers,
    create_cluster,
    pool_of_cluster,
)
from octad.coordinator.schema.access_keys import BadCredentials, check_credentials
from octad.coordinator.schema.cluster_view import BadRecord
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.server.coordinator import Coordinator
from octad.coordinator.server.coordinator_config import CoordinatorConfig
from octad.coordinator.status.cluster_status import NodeFailure, shown_endpoint
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.http_format import PURPOSE
from octad.coordinator.store.http_server import HttpFace
from octad.coordinator.store.interface import ConfigStore, StoreUnavailable
from octad.coordinator.store.open_store import StoreAddress, open_store
from octad.coordinator.store.sqlite_log import (
    StoreFileDamaged,
    StoreFileInUse,
    StoreFileUnusable,
)
from octad.sharding.ids import NodeId, shard_id
from octad.sharding.limits import SHARD_DEPTH_DEFAULT
from octad.storage_node.dev.death_record import record_death
from octad.storage_node.dev.dev_directory import (
    CLUSTER_FILE,
    RUNNING_FILE,
    DevCluster,
    DevDirectory,
    RunningDev,
    RunningDevNode,
    check_shape,
    free_ports,
)
from octad.storage_node.dev.dev_former_run import wait_for_former_nodes
from octad.storage_node.dev.dev_greeting import greeting
from octad.storage_node.dev.dev_node import HOST, NodeProcess, Surroundings
from octad.storage_node.dev.dev_options import DevOptions

PORT_MAX = 65_535
START_S_MAX = 60.0
PORT_S_MAX = 2.0
POLL_S = 0.02
FIRST_SHARD = shard_id(FIRST_POOL, 0)


def run_dev(options: DevOptions) -> int:
    """Returns 0 after SIGTERM or SIGINT; raises CommandError when it cannot start."""
    set_up_logging(logging.WARNING)  # Store and coordinator log; everything else is printed.
    take_open_files()  # For the nodes, too.
    keys = _checked_keys(options)
    check_shape(options.nodes, options.replicas)
    _check_port_numbers(options.s3_port, options.nodes or 1)
    directory = DevDirectory(options.data, fresh=options.fresh)
    try:
        was_killed = wait_for_former_nodes(options.data)
        _check_ports(options.s3_port, options.nodes or 1, was_killed=was_killed)
        cluster = directory.cluster(options.nodes, options.replicas, keys, options.etcd)
        _check_ports(options.s3_port, cluster.nodes, was_killed=was_killed)
        if options.tls:
            directory.keep_certificate(options.domains, datetime.now(UTC))
        _share_cores()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(options, directory, cluster))
    finally:
        directory.close()


def _share_cores() -> None:
    """From now on, also in the nodes, a woken process does not preempt the running one: sched(7).

    On few cores nodes would otherwise preempt each other at every message: a fifth of a PUT's CPU.
    """
    if hasattr(os, "SCHED_BATCH"):  # Linux.
        with suppress(OSError):  # If a sandbox forbids it all works, at more CPU.
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _checked_keys(options: DevOptions) -> tuple[str, str] | None:
    if options.access_key is None or options.secret_key is None:
        return None
    try:
        check_credentials(options.access_key, options.secret_key)
    except BadCredentials as error:
        raise CommandError(str(error), "choose others, or leave both out", 2) from error
    return options.access_key, options.secret_key


def _check_port_numbers(first: int, count: int) -> int:
    """The last one. Raises CommandError."""
    last = first + count - 1
    if not 0 < first <= last <= PORT_MAX:
        raise CommandError(
            f"S3 ports {first} to {last} are not all between 1 and {PORT_MAX}",
            "choose another --s3-port",
            2,
        )
    return last


def _check_ports(first: int, count: int, *, was_killed: bool) -> None:
    """A killed process releases its ports some moments after its lock."""
    deadline = time.monotonic() + (PORT_S_MAX if was_killed else 0)
    for port in range(first, _check_port_numbers(first, count) + 1):
        while True:
            try:
                take_port(f"{HOST}:{port}", "--s3-port").close()
                break
            except CommandError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(POLL_S)


async def _run(options: DevOptions, directory: DevDirectory, cluster: DevCluster) -> int:
    stop = _stop_signal()
    token = decode_join_token(cluster.join_token)
    started = time.monotonic()
    async with AsyncExitStack() as cleanup:
        progress = Progress(cluster.nodes)
        store, address = await _open_store(cleanup, directory, cluster, token)
        await _create_cluster(store, token, cluster, directory)
        directory.write_cluster(cluster)
        around = _surroundings(store, StoreKeys(token.cluster), progress)
        url = await _start_coordinator(cleanup, store, address, token, cluster, around.failures)
        more = options.node_arguments()
        nodes = [
            NodeProcess(number, directory, cluster, options.s3_port, url, around, more)
            for number in range(1, cluster.nodes + 1)
        ]
        cleanup.push_async_callback(_stop_nodes, nodes)
        needs_all = await store.get(StoreKeys(token.cluster).shard(FIRST_SHARD)) is None
        for node in nodes:
            node.start()
        if not await _wait_until_ready(nodes, stop, progress, needs_all=needs_all):
            return 0

        def write_running() -> None:
            try:
                _write_running(options, directory, cluster, address, url, nodes)
            except OSError as error:
                around.say(f"{directory.path / RUNNING_FILE} is as before: {error}")

        write_running()
        took = time.monotonic() - started
        print(greeting(options, cluster, url, took, nodes), flush=True)
        for node in nodes:
            node.on_change = write_running
            node.on_failure = lambda failure: around.say(f"{failure.what}; {failure.fix}")
        await stop
        print("stopping …", flush=True)
    return 0


def _surroundings(store: ConfigStore, keys: StoreKeys, progress: Progress) -> Surroundings:
    async def is_taken(node: NodeId) -> bool:
        return await store.get(keys.identity(node)) is not None

    async def died(node: NodeId) -> None:
        await record_death(store, keys, node)

    def say(line: str) -> None:
        progress.clear()
        print(line, flush=True)

    return Surroundings(is_taken, died, say, {})


async def _open_store(
    cleanup: AsyncExitStack, directory: DevDirectory, cluster: DevCluster, token: JoinToken
) -> tuple[ConfigStore, StoreAddress]:
    if cluster.etcd:
        address = StoreAddress("etcd", cluster.etcd)
        etcd = open_store(address, token)
        cleanup.push_async_callback(etcd.close)
        return etcd, address
    store = await _open_embedded(directory.path)
    cleanup.push_async_callback(store.close)
    face = HttpFace(store, token.key_for(PURPOSE))
    cleanup.push_async_callback(face.stop)
    url = await face.start(HOST, _usable_port(cluster.store_port))
    return store, StoreAddress("http", (url,))


async def _open_embedded(data: Path) -> EmbeddedStore:
    file = data / DEV_STORE_FILE
    try:
        return await EmbeddedStore.open(file)
    except StoreFileInUse as error:
        raise CommandError(
            str(error), "wait until that (an `octad coordinator` on it?) has ended, then again"
        ) from error
    except StoreFileDamaged as error:
        old = shlex.quote(str(file))
        raise CommandError(
            f"{error}; the nodes' data is intact, and they know what was in there",
            f"mv {old} {old}.damaged && {_rebuild_command(data)}",
        ) from error
    except StoreFileUnusable as error:
        raise CommandError(
            str(error), "use the octad that wrote it, or fix its permissions or its disk"
        ) from error


def _rebuild_command(data: Path) -> str:
    return f"octad coordinator rebuild --data {shlex.quote(str(data))}"


async def _create_cluster(
    store: ConfigStore, token: JoinToken, cluster: DevCluster, directory: DevDirectory
) -> None:
    """The store's cluster, or a new one; never if nodes hold data that it does not know.

    Raises CommandError.
    """
    try:
        if await pool_of_cluster(store, token) is None and directory.holds_data():
            where = ", ".join(map(shown_endpoint, cluster.etcd)) or str(DEV_STORE_FILE)
            raise CommandError(
                f"the nodes in {directory.path} hold data, and the configuration store ({where})"
                " knows nothing of it; nothing is lost, the nodes know what was in there",
                _rebuild_command(directory.path),
            )
        await create_cluster(
            store,
            token,
            cluster.replicas,
            SHARD_DEPTH_DEFAULT,
            cluster.access_key,
            cluster.secret_key,
        )
    except StoreUnavailable as error:
        raise CommandError(
            f"etcd does not answer at {', '.join(map(shown_endpoint, cluster.etcd))} ({error})",
            "start it, or correct --etcd",
        ) from error
    except BadRecord as error:
        raise CommandError(
            f"{error}; the nodes' data is intact, and they know what was in the store",
            f"{_rebuild_command(directory.path)} --force",
        ) from error
    except PoolDiffers as error:
        raise CommandError(
            f"{error}, {directory.path / CLUSTER_FILE} says {cluster.replicas}; no data is"
            " concerned",
            f'write "replicas": {error.pool.replicas} there',
        ) from error


async def _start_coordinator(
    cleanup: AsyncExitStack,
    store: ConfigStore,
    address: StoreAddress,
    token: JoinToken,
    cluster: DevCluster,
    failures: Mapping[NodeId, NodeFailure],
) -> str:
    listener = listen_on(f"{HOST}:{_usable_port(cluster.coordinator_port)}", "--data")
    cleanup.callback(listener.close)
    host, port = listener.getsockname()[:2]
    coordinator = Coordinator(
        store,
        CoordinatorConfig(
            token=token,
            store_address=address,
            store_kind="etcd" if cluster.etcd else "embedded",
            address=f"{host}:{port}",
            version=VERSION,
            nodes_expected=cluster.nodes,
            checks_reach=True,
        ),
        failures,
    )
    cleanup.push_async_callback(coordinator.stop)
    await coordinator.start()
    service = HttpService(coordinator)
    cleanup.push_async_callback(service.stop)
    await service.start(listener)
    return f"http://{host}:{port}"


def _usable_port(kept: int) -> int:
    """The port of the last run, or another when something else has taken it meanwhile."""
    try:
        take_port(f"{HOST}:{kept}", "").close()
    except CommandError:
        return free_ports(1)[0]
    return kept


async def _stop_nodes(nodes: list[NodeProcess]) -> None:
    """First all front doors: a write in progress needs the other nodes to its end."""
    await asyncio.gather(*(node.drain() for node in nodes))
    await asyncio.gather(*(node.stop() for node in nodes))


class Progress:
    """The one line that shows how far the start is, on a terminal only."""

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self._shown = sys.stderr.isatty()

    def show(self, ready: int) -> None:
        """`ready` nodes serve."""
        if self._shown:
            bar = "█" * ready + "░" * (self._nodes - ready)
            sys.stderr.write(f"\rstarting  {bar}  {ready} of {self._nodes} nodes serve ")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


async def _wait_until_ready(
    nodes: list[NodeProcess],
    stop: asyncio.Future[None],
    progress: Progress,
    *,
    needs_all: bool,
) -> bool:
    """True once every node serves, or has failed to start; False when stopped before.

    Where none serves, or the cluster has no shards yet, a failure ends it: CommandError.
    """
    deadline = time.monotonic() + START_S_MAX
    try:
        while waiting := [node for node in nodes if not node.ready and node.failure is None]:
            progress.show(sum(node.ready for node in nodes))
            if stop.done():
                return False
            if needs_all:
                _check_failures(nodes)
            if time.monotonic() > deadline:
                break
            await asyncio.wait([stop], timeout=POLL_S)
        if needs_all or not any(node.ready for node in nodes):
            _check_failures(nodes)
            if waiting:
                raise CommandError(
                    f"{', '.join(node.name for node in waiting)} did not become ready in"
                    f" {START_S_MAX:.0f} s",
                    f"look at {nodes[0].log.parent}/*.log",
                )
    finally:
        progress.clear()
    return True


def _check_failures(nodes: list[NodeProcess]) -> None:
    for node in nodes:
        if node.failure is not None:
            raise CommandError(node.failure.what, f"{node.failure.fix} (its log is {node.log})")


def _write_running(
    options: DevOptions,
    directory: DevDirectory,
    cluster: DevCluster,
    store: StoreAddress,
    url: str,
    nodes: list[NodeProcess],
) -> None:
    directory.write_running(
        RunningDev(
            supervisor_pid=os.getpid(),
            coordinator=url,
            store=",".join(cluster.etcd) or "embedded",
            store_url=store.endpoints[0] if store.kind == "http" else "",
            access_key=cluster.access_key,
            authority=str(options.authority) if options.tls else "",
            nodes=[
                RunningDevNode(node.id, node.pid, node.s3, f"{HOST}:{node.rpc_port}")
                for node in nodes
            ],
        )
    )


def _stop_signal() -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        if not stop.done():
            stop.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    return stop
