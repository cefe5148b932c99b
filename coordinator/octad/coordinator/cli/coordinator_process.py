"""The process behind `octad coordinator`: from its options to a clean stop.

The order is what keeps a start from being half-done: first everything is checked and the port is
taken (where it says that it is not ready), then the store is asked, and only then is anything
written.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import uvloop

from octad.client.cli.format_units import shown_copies
from octad.client.cluster.join_token import (
    BadJoinToken,
    JoinToken,
    decode_join_token,
    encode_join_token,
)
from octad.client.runtime.address import Address
from octad.client.runtime.command import CommandError
from octad.client.runtime.listener import datagrams_beside, listen_on
from octad.client.runtime.logs.log_lines import set_up_logging
from octad.client.runtime.open_files import take_open_files
from octad.client.version import VERSION
from octad.coordinator.checks.check_rules import Network, parse_networks
from octad.coordinator.dns.dns_server import DnsServer
from octad.coordinator.http.http_service import HttpService
from octad.coordinator.recovery.create_cluster import (
    OtherCluster,
    clusters_in,
    create_cluster,
    ensure_access_key,
    new_access_key,
    new_join_token,
    pool_of_cluster,
)
from octad.coordinator.schema.access_keys import BadCredentials, check_credentials
from octad.coordinator.schema.cluster_view import BadRecord
from octad.coordinator.schema.records import CLUSTERS
from octad.coordinator.server.coordinator import Coordinator
from octad.coordinator.server.coordinator_config import CoordinatorConfig
from octad.coordinator.status.cluster_status import shown_endpoint
from octad.coordinator.store.interface import ConfigStore, StoreUnavailable
from octad.coordinator.store.open_store import StoreAddress, open_store
from octad.coordinator.tls.certificate_files import certificate_of, reload_on_hangup
from octad.sharding.limits import SHARD_DEPTH_DEFAULT

REPLICAS_DEFAULT = 3
_CREATE_ATTEMPTS = 3
_ASK_AGAIN_S = 0.5
_SAY_AGAIN_S = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CoordinatorOptions:
    """The options as typed. `replicas` and the keys are None where not given."""

    etcd: tuple[str, ...]
    listen: str
    join_token: str | None
    replicas: int | None
    nodes_expected: int
    access_key: str | None
    secret_key: str | None
    create: bool = False
    check_networks: str = ""
    dns: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None


def run_coordinator(options: CoordinatorOptions) -> None:
    """Returns after SIGTERM or SIGINT; raises CommandError when it cannot start."""
    set_up_logging()
    take_open_files()
    with (
        suppress(asyncio.CancelledError),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_run(options))


async def _run(options: CoordinatorOptions) -> None:
    _stop_on_signals()
    given_token = _given_token(options)
    _check_keys(options)
    networks = _networks(options)
    certificate = certificate_of(options.tls_cert, options.tls_key, "the coordinator", "tls")
    if certificate is not None:
        reload_on_hangup(certificate)
    store_address = StoreAddress("etcd", options.etcd)
    token = given_token or new_join_token()
    with ExitStack() as sockets:
        listener = sockets.enter_context(closing(listen_on(options.listen, "--listen")))
        dns_sockets = _dns_sockets(options, sockets)
        store = _opened(store_address, token)
        address = Address(*listener.getsockname()[:2])
        coordinator = _coordinator(store, token, store_address, address, options, networks)
        service = HttpService(coordinator, certificate=certificate)
        dns = DnsServer(coordinator.services.of)
        try:
            await service.start(listener)
            keys: tuple[str, str] | None = None
            if given_token is None:
                keys = await _create(store, token, options)
            elif options.create:
                await _until_it_answers(lambda: store.get(CLUSTERS), options)
                keys = await _create_unless_there(store, token, options)
            else:
                await _until_it_answers(lambda: _check_cluster(store, token, options), options)
            await coordinator.start()
            if dns_sockets is not None:
                await dns.start(*dns_sockets)
            where = _where(address, secured=certificate is not None)
            print(_greeting(token, where, keys, _copies(options)), flush=True)
            await asyncio.get_running_loop().create_future()
        except StoreUnavailable as error:
            raise CommandError(
                f"etcd does not answer at {_shown(options)} ({error})",
                "start it, or correct --etcd",
            ) from error
        except BadRecord as error:
            raise CommandError(
                str(error), "use an etcd where nothing else writes octad/"
            ) from error
        finally:
            await dns.stop()
            await service.stop()
            await coordinator.stop()
            await store.close()


def _stop_on_signals() -> None:
    """The first SIGTERM or SIGINT cancels this task; its clean stop is not disturbed by another."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: None)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def _opened(address: StoreAddress, token: JoinToken) -> ConfigStore:
    try:
        return open_store(address, token)
    except ValueError as error:
        raise CommandError(str(error), "correct --etcd", 2) from error


def _shown(options: CoordinatorOptions) -> str:
    return ", ".join(shown_endpoint(url) for url in options.etcd)


def _given_token(options: CoordinatorOptions) -> JoinToken | None:
    try:
        return decode_join_token(options.join_token) if options.join_token else None
    except BadJoinToken as error:
        raise CommandError(
            str(error), "give --join-token as the first coordinator printed it"
        ) from error


def _dns_sockets(
    options: CoordinatorOptions, sockets: ExitStack
) -> tuple[socket.socket, socket.socket] | None:
    """For TCP and UDP; raises CommandError."""
    if options.dns is None:
        return None
    tcp = sockets.enter_context(closing(listen_on(options.dns, "--dns")))
    return tcp, sockets.enter_context(closing(datagrams_beside(tcp, "--dns")))


def _networks(options: CoordinatorOptions) -> tuple[Network, ...]:
    try:
        return parse_networks(options.check_networks)
    except ValueError as error:
        raise CommandError(
            f"--check-networks: {error}", "name networks as 10.0.0.0/8,fd00::/8", 2
        ) from error


def _check_keys(options: CoordinatorOptions) -> None:
    if options.access_key is None or options.secret_key is None:
        return
    try:
        check_credentials(options.access_key, options.secret_key)
    except BadCredentials as error:
        raise CommandError(str(error), "choose others, or leave both out", 2) from error


async def _until_it_answers(
    ask: Callable[[], Awaitable[object]], options: CoordinatorOptions
) -> None:
    """Wait for a cluster that exists: after a power cut, etcd may start later than we do."""
    said_at = -math.inf
    while True:
        try:
            await ask()
            return
        except StoreUnavailable as error:
            if time.monotonic() - said_at >= _SAY_AGAIN_S:
                said_at = time.monotonic()
                log.warning(
                    "waiting for etcd at %s, which does not answer (%s); start it, or correct"
                    " --etcd",
                    _shown(options),
                    error,
                )
        await asyncio.sleep(_ASK_AGAIN_S)


def _coordinator(
    store: ConfigStore,
    token: JoinToken,
    store_address: StoreAddress,
    address: Address,
    options: CoordinatorOptions,
    networks: tuple[Network, ...],
) -> Coordinator:
    return Coordinator(
        store,
        CoordinatorConfig(
            token=token,
            store_address=store_address,
            store_kind="etcd",
            address=str(address),
            version=VERSION,
            nodes_expected=options.nodes_expected,
            check_networks=networks,
            checks_reach=True,
        ),
    )


async def _create(
    store: ConfigStore, token: JoinToken, options: CoordinatorOptions
) -> tuple[str, str]:
    """Make the cluster; its first access key and secret."""
    if options.access_key is not None and options.secret_key is not None:
        keys = (options.access_key, options.secret_key)
    else:
        keys = new_access_key()
    clusters = await clusters_in(store)
    if clusters:
        raise _cluster_exists(clusters, options)
    for attempt in range(_CREATE_ATTEMPTS):
        try:
            await create_cluster(
                store, token, _copies(options), SHARD_DEPTH_DEFAULT, *keys, only_in_empty_store=True
            )
            return keys
        except OtherCluster as error:
            raise _cluster_exists(error.clusters, options) from error
        except StoreUnavailable as error:
            if attempt == _CREATE_ATTEMPTS - 1:
                raise CommandError(
                    f"etcd stopped answering while the cluster was made ({error})",
                    f"start again with --join-token {encode_join_token(token)} "
                    "(or without, if etcd says that there is no such cluster)",
                ) from error
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _create_unless_there(
    store: ConfigStore, token: JoinToken, options: CoordinatorOptions
) -> tuple[str, str] | None:
    """Make the cluster of an existing token; returns its keys if they were generated here."""
    if await pool_of_cluster(store, token) is None:
        try:
            keys = await _create(store, token, options)
        except CommandError:
            if await pool_of_cluster(store, token) is None:
                raise
        else:
            return None if options.access_key is not None else keys
    # It exists, or another coordinator has made it meanwhile.
    await _check_cluster(store, token, options)
    return None


def _cluster_exists(clusters: list[str], options: CoordinatorOptions) -> CommandError:
    return CommandError(
        f"etcd at {_shown(options)} holds cluster {', '.join(clusters)} already",
        "give its --join-token (or OCTAD_JOIN_TOKEN), or use an empty etcd",
    )


async def _check_cluster(store: ConfigStore, token: JoinToken, options: CoordinatorOptions) -> None:
    pool = await pool_of_cluster(store, token)
    if pool is None:
        clusters = await clusters_in(store)
        holds = f"holds cluster {', '.join(clusters)}" if clusters else "is empty"
        raise CommandError(
            f"the join token is for cluster {token.cluster}, and etcd {holds}",
            "correct --etcd or --join-token (without one, an empty etcd gets a new cluster)",
        )
    if options.replicas not in (None, pool.replicas):
        raise CommandError(
            f"cluster {token.cluster} keeps {shown_copies(pool.replicas)}, not {options.replicas}",
            "leave --replicas out; what a bucket keeps is its pool's matter: octad pool create"
            f" --replicas {options.replicas}, then a new bucket",
        )
    if options.access_key is not None and options.secret_key is not None:
        await ensure_access_key(store, token, options.access_key, options.secret_key)


def _copies(options: CoordinatorOptions) -> int:
    return options.replicas or REPLICAS_DEFAULT


def _where(address: Address, *, secured: bool) -> str:
    scheme = "https" if secured else "http"
    return f"{scheme}://{f'MACHINE:{address.port}' if address.is_wildcard else address}"


def _greeting(token: JoinToken, where: str, keys: tuple[str, str] | None, replicas: int) -> str:
    cluster = f"coordinator of cluster {token.cluster}"
    lines = [f"octad {VERSION}: {cluster} is ready at {where}"]
    if keys is not None:
        join_token = encode_join_token(token)
        risk = ": what a lost disk held is lost" if replicas == 1 else ""
        lines += [
            "",
            f"A new cluster was made. It keeps {shown_copies(replicas)} of everything{risk}.",
            "Keep these, they are not shown again:",
            f"  join token  {join_token}",
            f"  access key  {keys[0]}",
            f"  secret key  {keys[1]}",
            "",
            "Next, on every machine that shall hold data:",
            f"  export OCTAD_JOIN_TOKEN={join_token}",
            f"  octad node --data DIR --listen HOST:PORT --coordinator {where}",
            "",
            f"How it is: octad status --coordinator {where}",
        ]
    return "\n".join(lines)
