"""The process behind `octad node`: from its options to a clean stop.

Everything is checked before anything is written; what can pass by itself (no coordinator up yet,
the lease of an earlier run that has not ended) is waited for, and said once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack, ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from octad.client.runtime.address import Address
from octad.client.runtime.command import CommandError
from octad.client.runtime.listener import listen_on, take_port
from octad.client.runtime.logs.log_lines import set_up_logging
from octad.client.runtime.open_files import take_open_files
from octad.client.version import VERSION
from octad.coordinator.membership.admission import JoinRefused
from octad.coordinator.membership.join_client import JoinAnswer, JoinFailed, join
from octad.coordinator.recovery.filling_anew import Obstacle
from octad.coordinator.recovery.forced_recovery import held_alone
from octad.coordinator.schema.format_level import CODE as TOO_OLD_CODE
from octad.coordinator.schema.join_messages import JoinRequest
from octad.coordinator.schema.node_report import (
    INDEX_LOST,
    INDEX_REBUILDING,
    INDEX_WAITING,
    NodeReport,
)
from octad.coordinator.schema.records import StoreKeys
from octad.coordinator.store.interface import ConfigStore, Put, StoreUnavailable
from octad.coordinator.store.open_store import open_store
from octad.coordinator.tls.certificate_files import reload_on_hangup
from octad.sharding.ids import NodeId, ShardId, node_name
from octad.sharding.map.shard_map import decode_configuration
from octad.storage_node.cli.node_config import NodeOptions, config_of
from octad.storage_node.cli.parent_death import kill_with_parent
from octad.storage_node.cli.supervision import (
    DRAIN_SIGNAL,
    DRAINED_WORD,
    FAILED_WORD,
    ID_WORD,
    READY_WORD,
)
from octad.storage_node.index.index import IndexDamage, IndexDamaged, IndexFailed
from octad.storage_node.journal import set_aside
from octad.storage_node.journal.data_directory import (
    DataDirectory,
    DataDirectoryError,
    new_incarnation,
)
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal_errors import IndexBehind, JournalDamage
from octad.storage_node.journal.record_format import Identity
from octad.storage_node.memory.heap import bound_heap
from octad.storage_node.node.format_level import TooOld
from octad.storage_node.node.join_proof import saying_who_joins
from octad.storage_node.node.membership import RegisteredElsewhere
from octad.storage_node.node.node import Node
from octad.storage_node.node.node_failures import (
    NOT_FOR_OTHERS,
    cannot_go_on,
    cannot_start,
    journal_damaged,
)
from octad.storage_node.node.this_node import NodeConfig
from octad.storage_node.operations.registry import FORMAT_LEVEL
from octad.storage_node.rebuild import index_repair
from octad.storage_node.rebuild.filling_anew import BeginsAnew, FillingAnew

JOIN_RETRY_S = 0.25
SUPERVISOR_POLL_S = 0.5
UPGRADE = "install the octad that the other nodes run, or a newer one, and start it again"
STORE_S_MAX = 5.0  # To ask who else has copies, before a failed start is reported.

log = logging.getLogger(__name__)


def run_node(options: NodeOptions) -> int:
    """Returns 0 after SIGTERM or SIGINT; raises CommandError when it cannot start or go on."""
    set_up_logging()
    bound_heap()
    polls = False
    if options.supervisor_pid is not None:
        try:
            polls = not kill_with_parent(options.supervisor_pid)
        except ProcessLookupError:
            return 0
    try:
        config = config_of(options)
        take_open_files()
        return _run_to_end(options, config, polls=polls)
    except CommandError as error:
        _report(options, FAILED_WORD + msgspec.json.encode((error.what, error.fix)) + b"\n")
        raise


def _run_to_end(options: NodeOptions, config: NodeConfig, *, polls: bool) -> int:
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(options, config, polls=polls))
    except (_IndexUnusable, BeginsAnew):
        # This process may still have files open; the next one acts on the mark first.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except IndexFailed as error:  # At the end; the next start then replays more.
        raise cannot_start(None, config.data, error) from error
    except DataDirectoryError as error:
        raise CommandError(error.what, error.fix) from error
    except OSError as error:
        raise cannot_start(None, config.data, error) from error


async def _run(options: NodeOptions, config: NodeConfig, *, polls: bool) -> int:
    stop = _stop_signal(options.supervisor_pid if polls else None)
    certificates = [each for each in (config.certificate, config.log_certificate) if each]
    if certificates:
        reload_on_hangup(*certificates)
    failure: CommandError | None = None
    try:
        async with AsyncExitStack() as cleanup:
            try:
                failure = await _serve(options, config, stop, cleanup)
            except CommandError as error:
                failure = error
    except (IndexFailed, OSError):
        if failure is None:
            raise
    if failure is not None:
        raise failure  # The first failure, not later ones of its stop.
    return 0


async def _serve(
    options: NodeOptions, config: NodeConfig, stop: asyncio.Future[None], cleanup: AsyncExitStack
) -> CommandError | None:
    """Run until `stop`, or until it cannot go on; returns why."""
    directory = DataDirectory.open(config.data, config.token.cluster)
    cleanup.callback(directory.close)
    listening = cleanup.enter_context(ExitStack())
    rpc = Address(config.listen.host, config.rpc_port)
    # Kept until the node has joined. The coordinator tries whether a new one can be reached; whose
    # clients know it already must not connect before it serves.
    take = listen_on if directory.identity is None else take_port
    for address, option in (
        (config.listen, "--listen"),
        (config.admin, "--admin-listen"),
        (config.log, "--log-listen"),
    ):
        listening.enter_context(closing(take(str(address), option)))
    rpc_listener = listening.enter_context(closing(take(str(rpc), "--rpc-port")))
    starting = asyncio.create_task(
        _start(options, config, directory, listening, rpc_listener, cleanup)
    )
    await _first_of(starting, stop)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return None
    node = starting.result()
    if not node.failure.done():
        print(f"octad {VERSION}: {node_name(node.id)} is ready", flush=True)
        _drain_on_signal(options, node)
        _report(options, READY_WORD)
    await _first_of(node.failure, stop)
    if node.failure.done():
        failure = node.failure.result()
        if isinstance(failure, BeginsAnew):
            raise failure
        if isinstance(failure, TooOld):
            return CommandError(str(failure), UPGRADE)
        return cannot_go_on(node.id, config.data, failure)
    log.info("%s is stopping", node_name(node.id))
    return None


async def _first_of(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _start(
    options: NodeOptions,
    config: NodeConfig,
    directory: DataDirectory,
    listening: ExitStack,
    rpc_listener: socket.socket,
    cleanup: AsyncExitStack,
) -> Node:
    known = directory.identity
    incarnation = known.incarnation if known is not None else new_incarnation()
    # A disk in the place of one whose data is set aside is a new node: an id is used once.
    wanted_id = None if set_aside.places(config.data) else options.wanted_id
    node_id = known.node if known is not None else wanted_id
    with listening:
        async with AsyncExitStack() as saying:
            if known is None:
                await saying.enter_async_context(saying_who_joins(rpc_listener, incarnation))
            joined = await _join(config, node_id, incarnation)
    identity = known or directory.initialize(config.token.cluster, joined.node, incarnation)
    _report(options, ID_WORD + b"%d\n" % identity.node)
    await _repair_index(config, identity, joined, directory.path)
    try:
        node = Node(config, identity, joined, directory)
        await node.start(cleanup)
    except (IndexBehind, IndexDamaged, IndexDamage) as error:
        log.error("%s: nothing is lost: it is made anew from the journal", error)
        index_repair.mark(Disk(), directory.index, str(error))
        raise _IndexUnusable from error
    except DataDirectoryError as error:
        raise CommandError(error.what, error.fix) from error
    except JournalDamage as error:
        raise await _without_journal(config, identity, joined, error) from error
    except TooOld as error:
        raise CommandError(str(error), UPGRADE) from error
    except RegisteredElsewhere as error:
        raise CommandError(
            str(error), "stop one of the two; a copy of a data directory is no second node"
        ) from error
    except (OSError, IndexFailed) as error:
        raise cannot_start(identity.node, config.data, error) from error
    except StoreUnavailable as error:
        raise CommandError(
            f"{node_name(identity.node)} cannot start: the configuration store does not answer"
            f" ({error})",
            "start it again once `octad status` shows that the store does",
        ) from error
    await node.ready()
    return node


class _IndexUnusable(Exception):
    """The index is marked as damaged now."""


async def _repair_index(
    config: NodeConfig, identity: Identity, joined: JoinAnswer, data: Path
) -> None:
    """Replace an index known to be damaged, however long it takes."""
    disk = Disk()
    if not index_repair.is_marked(data) or index_repair.adopt(disk, data):
        return
    store = open_store(joined.store, config.token)
    try:
        log.warning("the index in %s is made anew from the journal", data)
        for pause_s in index_repair.pauses():
            await _tell(store, identity, index=INDEX_REBUILDING)
            try:
                await index_repair.rebuild_beside(data, None)
                break
            except index_repair.RebuildDelayed as error:
                log.warning("making an index failed: %s; trying again in %g s", error, pause_s)
                await _tell(store, identity, index=INDEX_WAITING)
                await asyncio.sleep(pause_s)
    except index_repair.RebuildFailed as error:
        damage = JournalDamage(f"its index is damaged, and cannot be made anew: {error}")
        damage.others_may_fill = error.others_may_fill
        raise await _without_journal(config, identity, joined, damage) from error
    finally:
        await store.close()
    index_repair.adopt(disk, data)


async def _without_journal(
    config: NodeConfig,
    identity: Identity,
    joined: JoinAnswer,
    damage: JournalDamage,
) -> Exception:
    """The error to raise: the node begins anew, or why the others do not fill it."""
    only_here = await _held_alone(config, identity, joined)
    obstacle: Obstacle | None = Obstacle(NOT_FOR_OTHERS, passes=False)
    store = open_store(joined.store, config.token)
    try:
        if damage.others_may_fill:
            obstacle = await FillingAnew(store, identity, config.data).decide(runs=False)
        why = "" if obstacle is None or damage.fix else obstacle.why
        index = INDEX_LOST if why and index_repair.is_marked(config.data) else ""
        await _tell(store, identity, index=index, anew_waits_for=why)
    finally:
        await store.close()
    if obstacle is None:
        log.warning("%s: this node's data is set aside, and the others fill it anew", damage)
        return BeginsAnew()
    return journal_damaged(identity.node, config.data, damage, only_here, obstacle)


async def _tell(
    store: ConfigStore, identity: Identity, *, index: str = "", anew_waits_for: str = ""
) -> None:
    """Write the report of a node that does not run yet, for people."""
    said = NodeReport(identity.node, "", {}, {}, index=index, anew_waits_for=anew_waits_for)
    key = StoreKeys(identity.cluster).report(identity.node)
    with suppress(StoreUnavailable):
        await store.transact([], [Put(key, msgspec.json.encode(said))])


async def _held_alone(
    config: NodeConfig, identity: Identity, joined: JoinAnswer
) -> list[ShardId] | None:
    """The shards that only this disk has completely; None if unknown."""
    store, keys = open_store(joined.store, config.token), StoreKeys(identity.cluster)
    try:
        async with asyncio.timeout(STORE_S_MAX):
            listing = await store.range(keys.shards)
    except (StoreUnavailable, TimeoutError):
        return None
    finally:
        await store.close()
    configurations = {
        keys.shard_of_key(entry.key): decode_configuration(entry.value) for entry in listing.entries
    }
    return held_alone(configurations, identity.node, identity.incarnation)


async def _join(config: NodeConfig, node: NodeId | None, incarnation: str) -> JoinAnswer:
    request = JoinRequest(
        cluster=config.token.cluster,
        node=node,
        incarnation=incarnation,
        rpc_address=str(Address(config.advertise_host, config.rpc_port)),
        s3_address=str(Address(config.advertise_host, config.listen.port)),
        zone=config.zone,
        weight=config.weight,
        version=VERSION,
        format_level=FORMAT_LEVEL,
    )
    said = False
    while True:
        try:
            return await join(
                config.coordinator_urls, config.token, request, config.coordinator_authority
            )
        except (JoinRefused, JoinFailed) as error:
            if not error.passes:
                options = "correct --coordinator, --join-token, --advertise, --zone or --weight"
                too_old = isinstance(error, JoinRefused) and error.code == TOO_OLD_CODE
                raise CommandError(
                    f"the cluster does not let this node in: {error}",
                    UPGRADE if too_old else options,
                ) from error
            if not said:
                log.warning("waiting to join: %s", error)
                said = True
        except ValueError as error:
            raise CommandError(
                str(error), "correct --coordinator or --coordinator-ca", 2
            ) from error
        await asyncio.sleep(JOIN_RETRY_S)


def _stop_signal(supervisor_pid: int | None) -> asyncio.Future[None]:
    """Ends at SIGTERM or SIGINT, or when a supervisor to look for is gone."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        if not stop.done():
            stop.set_result(None)

    def look_for_supervisor() -> None:
        if os.getppid() != supervisor_pid:
            end()
        elif not stop.done():
            loop.call_later(SUPERVISOR_POLL_S, look_for_supervisor)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    if supervisor_pid is not None:
        look_for_supervisor()
    return stop


def _drain_on_signal(options: NodeOptions, node: Node) -> None:
    """The supervisor of several nodes drains all of them before it stops the first."""
    draining: set[asyncio.Task[None]] = set()

    async def drain() -> None:
        await node.drain()
        _report(options, DRAINED_WORD)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(DRAIN_SIGNAL, lambda: draining.add(asyncio.create_task(drain())))


def _report(options: NodeOptions, word: bytes) -> None:
    if options.report_descriptor is not None:
        with suppress(BrokenPipeError):  # The supervisor is gone, and so are we soon.
            os.write(options.report_descriptor, word)
