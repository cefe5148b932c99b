"""One storage node: its parts put together, started in order and stopped in reverse.

    data directory ─ join ─ run ─ journal and index (replay) ─ RPC ─ mirror ─ shards ─ front door

What each part does is in its own file; this one only knows which needs which.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import msgspec

from octad.client.cluster.join_token import JoinToken
from octad.client.runtime.address import Address
from octad.client.runtime.open_files import open_files_limit
from octad.coordinator.membership.join_client import JoinAnswer
from octad.coordinator.schema.access_keys import secret_of
from octad.coordinator.schema.node_report import INDEX_LOST, INDEX_REBUILDING, INDEX_WAITING
from octad.coordinator.schema.placement_records import NodeSettings, PlacementKeys
from octad.coordinator.schema.records import AccessKeyRecord, NodeRecord, StoreKeys
from octad.coordinator.store.interface import ConfigStore, KeyValue
from octad.coordinator.store.mirror import Mirror
from octad.coordinator.store.open_store import open_store
from octad.sharding import limits
from octad.sharding.ids import NodeId, Seq, node_name
from octad.sharding.map.shard_map import ShardMap
from octad.storage_node.history.history_copier import HistoryCopier
from octad.storage_node.history.history_messages import ReadHistory, ReadRecords
from octad.storage_node.history.history_source import HistorySource
from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index import IndexDamage, IndexDamaged, IndexFailed
from octad.storage_node.journal.data_directory import DataDirectory
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import JournalDamage
from octad.storage_node.journal.record_format import Identity
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.memory.heap import HeapKeeper
from octad.storage_node.node.admin_listener import AdminListener
from octad.storage_node.node.disk_run import begin_run
from octad.storage_node.node.membership import Membership
from octad.storage_node.node.node_failures import NOT_FOR_OTHERS
from octad.storage_node.node.node_metrics import NodeMetrics, PeerCounts
from octad.storage_node.node.open_file_shares import open_file_shares
from octad.storage_node.node.row_keeper import RowKeeper
from octad.storage_node.node.shard_reporter import ShardReporter
from octad.storage_node.node.usage_reporter import UsageReporter
from octad.storage_node.objects.cluster_objects import ClusterObjects
from octad.storage_node.rebuild import index_repair
from octad.storage_node.rebuild.filling_anew import BeginsAnew, FillingAnew
from octad.storage_node.replication.digest_messages import ReadDigests
from octad.storage_node.replication.host.cluster_facts import ClusterFacts
from octad.storage_node.replication.host.index_catch_up import CatchUp
from octad.storage_node.replication.host.row_changes import RowChanges
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.replication.shard_replica import ShardReplica
from octad.storage_node.rpc.messages import Message
from octad.storage_node.rpc.peer_tls import TlsContexts
from octad.storage_node.rpc.peers import Peers
from octad.storage_node.s3.http.server import FrontDoor
from octad.storage_node.shards.bucket_directory import BucketDirectory
from octad.storage_node.shards.patience import now
from octad.storage_node.shards.routing import ShardClient, ShardServer
from octad.storage_node.shards.shard_service import ShardService
from octad.storage_node.upkeep.compactor import check_segments
from octad.storage_node.upkeep.copy_comparer import CopyComparer
from octad.storage_node.upkeep.engine_upkeep import EngineUpkeep
from octad.storage_node.upkeep.extent_upkeep import WAITS_VARIABLE, ExtentUpkeep, waits_of
from octad.storage_node.upkeep.record_mender import RecordMender
from octad.storage_node.upkeep.record_repair import RecordRepair
from octad.storage_node.upkeep.returning_space import returning_space
from octad.storage_node.upkeep.shard_counter import ShardCounter

STOP_GRACE_S = 10.0
READY_POLL_S = 0.02
CATCH_UPS_MAX = 100  # Each brings it nearer, unless something is wrong with it.
ANNOUNCED_S = 4 * limits.ANNOUNCE_DELAY_S  # Said after one, applied after another, and the way.
BOOT_BYTES = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What an operator says of a node. S3 and RPC are on `listen.host`."""

    data: Path
    listen: Address
    rpc_port: int
    admin: Address
    all_through_aiohttp: bool  # No protocol of our own before it.
    body_budget_bytes: int
    sigv2_urls: bool
    domains: tuple[str, ...]
    advertise_host: str
    coordinator_urls: str
    token: JoinToken
    zone: str
    weight: float
    tls: TlsContexts | None  # Between nodes.
    nodes_on_disk: int  # How many share the disk, this one included.


class Node:
    """A running node: made by `running_node`."""

    def __init__(
        self, config: NodeConfig, identity: Identity, joined: JoinAnswer, directory: DataDirectory
    ) -> None:
        self.id = identity.node
        loop = asyncio.get_running_loop()
        self.failure: asyncio.Future[Exception] = loop.create_future()
        self._config = config
        self._directory = directory
        self._identity = identity
        self._region = joined.region
        self._boot = os.urandom(BOOT_BYTES)
        self._requests = itertools.count(1)
        self._addresses: dict[NodeId, str] = {}
        self._secrets: dict[str, tuple[str, str]] = {}
        self._store: ConfigStore = open_store(joined.store, config.token)
        self._keys = StoreKeys(config.token.cluster)
        self._mirror = Mirror(self._store, self._keys.prefix)
        self._keeper = RowKeeper(directory.path, identity, self._mirror)
        shares = self._shares = open_file_shares(open_files_limit())
        self._journal = Journal.open(
            directory.journal,
            identity,
            open_files_max=shares.journal,
            nodes_on_disk=config.nodes_on_disk,
        )
        self._index = CountedIndex(directory.index, shares.index)
        self._index.on_damage = partial(_call_in, loop, self._lose_rows)
        self._index_state = ""
        self._index_whole = asyncio.Event()
        self._anew = FillingAnew(self._store, identity, directory.path)
        self._peers = Peers(
            self.id,
            self._boot.hex(),
            config.token,
            lambda *message: self._host.on_message(*message),
            lambda *request: self._server.on_request(*request),
            lambda node, _boot: self._on_connected(node),
            lambda node: log.warning("lost the connection to %s", node_name(node)),
            config.tls,
        )
        self._facts = ClusterFacts(
            self._keys,
            self._peers.heard_boot,
            lambda shard: self._host.on_plan(shard),
            lambda: self._host.look_around(),
        )
        self._rows = RowChanges(
            self.id,
            self._boot.hex(),
            self._store,
            self._keys,
            self._mirror,
            self._facts,
            lambda shard: self._client.rows_changed(shard),
        )
        self._host = ShardHost(
            self.id,
            identity.incarnation,
            self._journal,
            self._index,
            self._peers,
            int.from_bytes(self._boot, "big"),
            self._facts,
            self._copy,
            lambda shard: self._copier.cancel(shard),
            lambda *whole: self._copier.forget_marks(*whole),
            self._rows.submit,
            self._rows.refetch,
            self._fail,
        )
        self._buckets = BucketDirectory(self._store, self._keys, self._mirror)
        budget = BodyBudget(config.body_budget_bytes)
        history = HistorySource(
            self._journal, self._index, self._host.replicas.get, self._buckets.pool_of
        )
        self._counter = ShardCounter(
            self._journal,
            self._index,
            self._host.replicas,
            self._buckets.pool_of,
            self._host.keep_state,
        )
        self._comparer = CopyComparer(self._host, self._counter, self._ask)
        pools = self._facts.pools
        service = ShardService(self._host, self._index, self._journal, self._buckets, pools)
        self._server = ShardServer(service)
        self._server.register(ReadHistory, history.answer)
        self._server.register(ReadRecords, history.answer)
        self._server.register(ReadDigests, self._counter.answer)
        shard_map = ShardMap(pools, self._facts.rows)
        self._client = ShardClient(self.id, service, self._server, self._peers, shard_map)
        objects = ClusterObjects(
            self._client, service, self._buckets, pools, self._next_request_id, budget
        )
        repair = RecordRepair(self.id, self._journal, self._index, shard_map, self._client.call)
        mender = RecordMender(
            self._journal, self._index, self._host.is_dirty, repair.fetch, self._buckets.name_of
        )
        self._server.mend = history.mend = mender.mend
        waits = waits_of(os.environ.get(WAITS_VARIABLE))
        self._upkeep = EngineUpkeep(
            self._journal, self._index, self._host.is_dirty, mender, waits.reader_pin_s
        )
        self._extents = ExtentUpkeep(
            self._host,
            self._index,
            self._client,
            self._server,
            objects.under_way,
            objects.reads,
            repair,
            self._next_request_id,
            self._is_removed,
            self._doors,
            self._full_nodes,
            waits,
        )
        self._usage = UsageReporter(
            self.id,
            self._store,
            self._keys,
            self._journal.disk,
            directory.path,
            self._index,
            shard_map,
            self._buckets.pool_of,
        )
        self._front_door = FrontDoor(
            objects,
            self._secrets.get,
            self._region,
            self._next_request_id,
            budget,
            all_through_aiohttp=config.all_through_aiohttp,
            sigv2_urls=config.sigv2_urls,
            domains=config.domains,
            connections_max=shares.clients,
        )
        self._started = False
        metrics = NodeMetrics(
            self._front_door.requests,
            self._front_door.unknown_headers,
            lambda: self._upkeep.report() if self._started else None,
            lambda: self._journal.records_appended,
            lambda: PeerCounts(self._peers.named, self._peers.open, self._peers.refusals),
            lambda: self._front_door.room,
            self._shard_counts,
            budget,
        )
        self._admin = AdminListener(config.token, metrics, self._not_ready, self._keeper.content)
        self._background: set[asyncio.Task[None]] = set()
        self._draining: asyncio.Task[None] | None = None

    async def start(self, cleanup: AsyncExitStack) -> None:
        """Everything up, in order; what was started is undone by `cleanup`, in reverse."""
        config = self._config
        cleanup.push_async_callback(self._store.close)
        cleanup.push_async_callback(self._admin.stop)
        admin_port = await self._admin.start(config.admin)
        cleanup.callback(self._index.close)
        cleanup.push_async_callback(self._journal.close)
        cleanup.callback(self._host.close)
        await begin_run(self._directory, self.id, self._store, self._keys)
        check_segments(self._journal, self._index)
        self._index.follow(self._journal)
        self._index.before_flush = self._host.before_flush
        whole = self._host.recover()
        self._copier = HistoryCopier(
            self._journal,
            self._index,
            self._ask,
            self._host.on_copied,
            self._host.wants_copy,
            self._buckets.pool_of,
            self._counter.ask,
        )
        cleanup.push_async_callback(self._copier.close)
        for shard in whole:
            self._copier.forget_marks(shard, self._host.replicas[shard].log.applied)
        cleanup.push_async_callback(self._peers.close)
        await self._peers.listen(config.listen.host, config.rpc_port)
        cleanup.push_async_callback(self._mirror.stop)
        await self._mirror.start()
        cleanup.push_async_callback(self._keeper.close)
        self._keeper.start()
        self._mirror.subscribe(self._on_change)
        record = NodeRecord(
            id=self.id,
            incarnation=self._identity.incarnation,
            rpc_address=str(Address(config.advertise_host, config.rpc_port)),
            s3_address=str(Address(config.advertise_host, config.listen.port)),
            zone=config.zone,
            weight=config.weight,
            version=version("octad"),
            boot=self._boot.hex(),
            admin_address=str(Address(self._admin_host(), admin_port)),
        )
        membership = Membership(self._store, self._keys, record, self._fail)
        cleanup.push_async_callback(membership.stop)
        await membership.start()
        cleanup.push_async_callback(self._rows.stop)
        await self._rows.start(self._host)
        cleanup.push_async_callback(self.drain)
        await self._front_door.start(config.listen.host, config.listen.port)
        cleanup.push_async_callback(self._stop_background)
        self._started = True
        self._run(self._keep_up())
        self._run(HeapKeeper().run())
        reporter = ShardReporter(
            self.id,
            self._boot.hex(),
            self._store,
            self._keys,
            self._facts,
            self._host,
            self._comparer.verified,
            self._copier.progress,
            lambda: self._upkeep.report().damage,
            self._journal.room.is_full,
            lambda: self._index_state,
            lambda: (self._anew.waits_for, self._anew.in_place_of),
            lambda: returning_space(self._index.ledger, *self._extents.collector.waiting()),
        )
        self._run(reporter.run())
        self._run(self._anew.end())

    async def ready(self) -> None:
        """Returns once every shard has a row and those that this node is primary of are served."""
        while not self._is_ready():
            await asyncio.sleep(READY_POLL_S)

    async def drain(self) -> None:
        """Finish the clients' requests and take no more; other nodes are still answered."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        await asyncio.shield(self._draining)

    async def _drain(self) -> None:
        """Until the other members have heard of the last commits: nothing is undecided then."""
        await self._front_door.stop(STOP_GRACE_S)
        await asyncio.sleep(ANNOUNCED_S)

    def _admin_host(self) -> str:
        admin = self._config.admin
        return self._config.advertise_host if admin.is_wildcard else admin.host

    def _not_ready(self) -> str | None:
        if self.failure.done():
            return f"it cannot go on: {self.failure.result()}"
        if self._draining is not None:
            return "it is stopping"
        if not self._started:
            return "it is starting"
        return None if self._is_ready() else "it waits for shards"

    def _shard_counts(self) -> tuple[int, int]:
        rows = self._facts.rows.values()
        members = sum(row.member(self.id) is not None for row in rows)
        return members, sum(row.primary == self.id for row in rows)

    def _is_ready(self) -> bool:
        rows, pools = self._facts.rows, self._facts.pools
        shard_map = ShardMap(pools, rows)
        if not pools:
            return False
        if self._index_state:
            return True  # Others serve what it cannot read; alone, it refuses.
        for pool in pools:
            for shard in shard_map.shards_of(pool):
                row = rows.get(shard)
                if row is None:
                    return False
                if row.primary == self.id and not self._host.serves(shard):
                    return False
        return True

    # -- what changes in the store -------------------------------------------------------------

    def _on_change(self, key: str, entry: KeyValue | None) -> None:
        keys = self._keys
        self._facts.on_change(key, entry)
        if key.startswith(keys.shards):
            self._rows.on_change(key, entry)
        elif key.startswith(keys.buckets):
            self._buckets.on_change(key, entry)
        elif key.startswith(keys.access_keys):
            self._on_access_key(key.removeprefix(keys.access_keys), entry)
        elif entry is not None and key.startswith(keys.nodes):
            self._on_node(msgspec.json.decode(entry.value, type=NodeRecord))

    def _on_connected(self, node: NodeId) -> None:
        self._host.on_connected(node)
        self._client.connected(node)

    def _on_node(self, record: NodeRecord) -> None:
        """A node that leaves keeps its address here: a lapsed lease must not cut a connection."""
        if record.id != self.id and self._addresses.get(record.id) != record.rpc_address:
            self._addresses[record.id] = record.rpc_address
            self._peers.set_addresses(self._addresses)

    def _on_access_key(self, access_key: str, entry: KeyValue | None) -> None:
        self._secrets.pop(access_key, None)
        if entry is not None:
            record = msgspec.json.decode(entry.value, type=AccessKeyRecord)
            if not record.disabled:
                secret = secret_of(self._config.token, record)
                self._secrets[access_key] = (secret, record.owner)

    def _copy(self, replica: ShardReplica, start: Seq, sources: tuple[NodeId, ...]) -> None:
        """The shard with the fewest copies goes first."""
        assert replica.row is not None
        full = sum(member.base == 0 for member in replica.row.members)
        self._copier.begin(replica.shard, replica.row.depth, start, sources, full)

    # -- odds and ends -------------------------------------------------------------------------

    def _next_request_id(self) -> bytes:
        return self._boot + next(self._requests).to_bytes(8, "big")

    async def _ask(
        self, node: NodeId, message: Message, body: bytes, timeout_s: float
    ) -> tuple[Message, bytes | memoryview]:
        return await self._peers.call(node, message, body, timeout_s=timeout_s)

    def _is_removed(self, node: NodeId) -> bool:
        """Whether an operator has said that `node` is gone for good."""
        entry = self._mirror.entries.get(PlacementKeys(self._keys).node_settings(node))
        return entry is not None and msgspec.json.decode(entry.value, type=NodeSettings).removed

    async def _doors(self) -> list[NodeId]:
        """All nodes that may answer clients, as the store has them now."""
        prefix = self._keys.identities
        listing = await self._store.range(prefix)
        known = [NodeId(int(each.key.removeprefix(prefix))) for each in listing.entries]
        return [node for node in known if not self._is_removed(node)]

    def _full_nodes(self) -> set[NodeId]:
        """Those whose disks are full, or were within the last minute."""
        reported = self._facts.full & self._facts.nodes.keys()
        return reported | self._host.full_disks.since(now() - limits.FULL_REMEMBERED_S)

    def _fail(self, error: Exception) -> None:
        if not self.failure.done():
            log.error("%s cannot go on: %s", node_name(self.id), error)  # Its end may take a while.
            self.failure.set_result(error)

    async def _keep_up(self) -> None:
        while True:
            upkeep = (self._upkeep, self._extents, self._usage, self._counter, self._comparer)
            tasks = [asyncio.create_task(each.run()) for each in upkeep]
            try:
                await asyncio.gather(*tasks)
            except IndexDamage:  # Nothing is to be done for an index that is given up.
                await stop_all(tasks)
                await self._index_whole.wait()
            except Exception as error:
                self._fail(error)
                return
            finally:
                await stop_all(tasks)

    def _lose_rows(self, damage: str) -> None:
        """Go on without the index; meanwhile another is made from the journal."""
        log.error(
            "%s: nothing is lost, the journal has it all; it is made anew from there, and until"
            " then other nodes answer for what is here",
            damage,
        )
        self._index_state = INDEX_REBUILDING
        self._index_whole.clear()
        self._host.lose_rows()
        self._run(self._make_index(damage), name="another index")

    async def _make_index(self, why: str) -> None:
        damaged, journal = self._index.directory, self._journal
        for pause_s in index_repair.pauses():
            try:
                await asyncio.to_thread(index_repair.mark, journal.disk, damaged, why)
                await self._go_on_with_another()
                break
            except (index_repair.RebuildFailed, JournalDamage) as error:
                self._index_state = INDEX_LOST
                log.error("no index can be made from the journal in %s: %s", damaged.parent, error)
                await self._begin_anew(may_be_filled=error.others_may_fill)
                return
            except (index_repair.RebuildDelayed, IndexDamage, IndexFailed, OSError) as error:
                self._index_state = INDEX_WAITING
                log.warning("no index could be made: %s; tried again in %g s", error, pause_s)
                await asyncio.sleep(pause_s)
                self._index_state = INDEX_REBUILDING
            except Exception as error:  # A bug; the node would wait for an index for ever.
                self._fail(error)
                return
        self._index_state = ""
        self._index_whole.set()
        log.info("the index is whole again: what is here is read again, and counts")

    async def _begin_anew(self, *, may_be_filled: bool) -> None:
        """Both are damaged: once the others have all of it, they fill this node; else it waits.

        Meanwhile it acknowledges, and what it acknowledges is durable.
        """
        if not may_be_filled:
            self._anew.waits_for = NOT_FOR_OTHERS
            return
        try:
            await self._anew.decided()
        except Exception as error:  # The disk, or a bug; it would wait for ever.
            self._fail(error)
        else:
            self._fail(BeginsAnew())

    async def _go_on_with_another(self) -> None:
        """Raises what making it, and catching up with it, raises; the index is as it was then."""
        journal = self._journal
        made = await index_repair.rebuild_beside(self._directory.path, lambda: journal.durable_to)
        index: CountedIndex | None = None
        try:
            index = await asyncio.to_thread(CountedIndex, made, self._shares.index)
            successor = CatchUp(self.id, journal, index)
            await asyncio.to_thread(successor.read_on)
            for _ in range(CATCH_UPS_MAX):
                if self._host.go_on_with(successor):
                    return
                await asyncio.sleep(READY_POLL_S)
                await asyncio.to_thread(successor.read_on)
            raise IndexFailed("the new index does not catch up with what is applied")
        except IndexDamaged as error:  # It is as good as its file is, and that is not.
            await asyncio.to_thread(index_repair.give_up, journal.disk, made)
            raise IndexDamage(str(error)) from error
        except (JournalDamage, IndexDamage, IndexFailed, OSError):
            if index is not None:
                index.note_damage("it is given up")
                index.close()
            await asyncio.to_thread(index_repair.give_up, journal.disk, made)
            raise

    def _run(self, work: Coroutine[object, object, None], name: str | None = None) -> None:
        task = asyncio.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _stop_background(self) -> None:
        await stop_all(self._background)


def _call_in(loop: asyncio.AbstractEventLoop, call: Callable[[str], None], damage: str) -> None:
    """From whichever thread has met the damage, and not in the middle of what it did."""
    loop.call_soon_threadsafe(call, damage)


async def stop_all(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel them, and wait until they have ended, however they do."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
