"""What a node answers about the shards it holds, to its own front door and to other nodes alike.

Writes are handed to the shard's replica, which refuses those whose guard says no; reads come from
the index and the journal. Raises the errors of `object_store.py`, and `AskPrimary` for a read that
this node may not answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from contextlib import suppress

import msgspec

from octad.sharding import limits
from octad.sharding.hashing import object_hash, shard_number
from octad.sharding.ids import BucketId, Epoch, PoolId, Seq, ShardId, pool_of, shard_name
from octad.sharding.map.shard_map import Pool
from octad.storage_node.index.index import Index, IndexDamage
from octad.storage_node.index.index_format import (
    UPLOAD_ID_BYTES,
    IndexedObject,
    decode_object,
    decode_ordered,
    decode_part,
    decode_part_key,
    decode_piece,
    decode_upload,
    decode_upload_key,
    object_key,
    part_key,
    parts_prefix,
    piece_key,
    upload_key,
    uploads_range,
)
from octad.storage_node.index.key_ranges import past
from octad.storage_node.index.rows import ExtrasChange, ObjectRow, PartRow, UploadRow
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_errors import CorruptRecord, JournalFull
from octad.storage_node.journal.record_format import Location
from octad.storage_node.operations.appends import FormsDiffer
from octad.storage_node.operations.conditions import Condition, Version
from octad.storage_node.operations.index_changes import (
    AbortUpload,
    CompleteUpload,
    DeleteObject,
    Operation,
    PutObject,
    PutPart,
    put_object,
    touched,
)
from octad.storage_node.operations.kind import Proposer
from octad.storage_node.operations.registry import buckets_written_by, declared
from octad.storage_node.replication.guards import (
    GuardRefuses,
    Refusal,
    appending,
    change_of_extras,
)
from octad.storage_node.replication.host.index_applier import WriteFailed
from octad.storage_node.replication.host.shard_host import ShardHost
from octad.storage_node.replication.prepared_rows import PreparedRows
from octad.storage_node.replication.replica_actions import AlreadyRefused, OutcomeUnknown
from octad.storage_node.replication.writes import Write, write_of
from octad.storage_node.shards.bucket_directory import BucketDirectory
from octad.storage_node.shards.key_scan import scan_keys
from octad.storage_node.shards.listing.listed_shards import ListedShards, PoolsLed
from octad.storage_node.shards.listing.listing_merge import ListEntry
from octad.storage_node.shards.object_messages import Appended, AppendObject, Done
from octad.storage_node.shards.object_store import (
    Damaged,
    ListQuery,
    NoSuchUpload,
    NotServed,
    OtherForm,
    OutcomeForgotten,
    StoredObject,
    Unavailable,
)
from octad.storage_node.shards.refusals import error_of_order, store_error
from octad.storage_node.shards.running_reads import RunningReads

log = logging.getLogger(__name__)

_OF_OPEN_UPLOADS = (PutPart, AbortUpload)


class AskPrimary(Exception):
    """This node cannot tell whether its rows are current; the primary can."""


class ShardService:
    """See the module."""

    def __init__(
        self,
        host: ShardHost,
        index: Index,
        journal: Journal,
        buckets: BucketDirectory,
        pools: dict[PoolId, Pool],
    ) -> None:
        self._host = host
        self._index = index
        self._journal = journal
        self._buckets = buckets
        self._pools = pools
        self._led = PoolsLed(host)
        self.reads = RunningReads()  # Reads by this node's front door of rows here.

    def knows(self, level: int) -> bool:
        """Whether every node of the cluster knows this format level: from then on for good."""
        return self._host.level >= level

    # -- writes --------------------------------------------------------------------------------

    async def change_extras(
        self,
        shard: ShardId,
        bucket: BucketId,
        key: bytes,
        change: ExtrasChange,
        request_id: bytes,
        age_s: float,
        asked_in: Epoch,
    ) -> Done:
        """`propose` of the object that stands, with other extras; raises NoSuchKey."""
        unknown = put_object(bucket, key, ObjectRow(0, "", 0))  # The guard uses the real row.
        guard = change_of_extras(bucket, key, change)
        write = write_of(unknown, request_id, b"", age_s, asked_in, guard)
        return await self.propose(shard, write, keeps_bytes=True)

    async def append(
        self, message: AppendObject, data: memoryview, condition: Condition | None
    ) -> Appended:
        """`propose` of the object with the piece behind it; raises what refuses it, or OtherForm.

        Bytes in a record are put there once more, with those of the piece.
        """
        shard, bucket, key, piece = message.shard, message.bucket, message.key, message.piece
        appends, made = appending(bucket, key, piece, condition), list[ObjectRow]()

        def guard(rows: PreparedRows) -> Operation | Refusal:
            decision = appends(rows)
            if isinstance(decision, PutObject):
                made.append(decision.row)
            return decision

        of = message.request_id, data, message.age_s, message.asked_in, guard
        write = write_of(put_object(bucket, key, piece.row), *of)
        try:
            done = await self.propose(shard, write, keeps_bytes=not piece.row.extents)
        except FormsDiffer as error:
            raise OtherForm from error
        if not made and done.epoch:  # By an earlier try, and it still stands.
            stored = self._stored_object(object_key(bucket, key), with_data=False)
            made += [] if stored is None else [stored.row]
        told = (made[0].etag, made[0].checksums) if made else ("", {})
        return Appended(done.copies, done.epoch, done.seq, *told)

    async def propose(self, shard: ShardId, write: Write, *, keeps_bytes: bool = False) -> Done:
        """Order the write, as its guard decides if it has one; wait until it is applied.

        `keeps_bytes`: the object exists; the bytes in its record stay, in front of the write's.

        A request that was first made `age_s` ago and ordered then is not ordered again. Raises what
        a refusal means.
        """
        operation = write.operation
        kind = declared(operation)
        if kind.proposer is Proposer.UPKEEP:
            await self._order(shard, write)
            return Done()  # Callers that free space retry, and need no count of copies.
        if kind.bucket_of is None:
            raise ValueError(f"a {type(operation).__name__} is of no bucket")
        bucket = kind.bucket_of(operation)
        if write.age_s:
            made = await self._was_made(shard, write.request_id, write.age_s)
            if made is not None:
                return self._acknowledged(shard, bucket, write, made)
        if isinstance(operation, DeleteObject):
            anew = write.guard is None and not write.age_s
            if anew and not self.present(shard, bucket, (operation.key,)):
                return Done()  # No other try of it exists that could delete what is put later.
        elif isinstance(operation, _OF_OPEN_UPLOADS):
            pass  # An open upload keeps its bucket, or ends with it.
        elif not self._buckets.is_active(bucket):
            await self._buckets.require_active(bucket)
        self.require_copies(shard, bucket, NotServed)
        if keeps_bytes:
            data = await self._bytes_in_record(shard, touched(operation)[0])
            data = b"".join((data, write.data)) if write.data else data
            write = msgspec.structs.replace(write, data=data)
        version = await self._order(shard, write)
        return self._acknowledged(shard, bucket, write, version)

    async def _bytes_in_record(self, shard: ShardId, index_key: bytes) -> bytes | memoryview:
        """The bytes of the object as prepared; the caller must order without an await after this.

        If others change it all the time, they may come from an entry that is not applied yet.
        """
        give_up = asyncio.get_running_loop().time() + limits.WRITE_TIMEOUT_S
        while (newest := self._host.newest(shard, index_key)) is not None:
            if type(newest.operation) is PutObject and newest.data is not None:
                return newest.data
            if asyncio.get_running_loop().time() > give_up:
                raise NotServed(f"shard {shard_name(shard)} cannot settle this key now")
            await self._host.applier.applied()
        stored = self._stored_object(index_key, with_data=True)
        return b"" if stored is None or stored.data is None else stored.data

    async def close_bucket(self, bucket: BucketId) -> None:
        """Refuse new keys of `bucket` from now on; returns when the index shows what was in flight.

        That includes writes that no client waits for any more. Raises Unavailable.
        """
        await self._buckets.wait_until_closed(bucket)
        in_flight = [
            (replica, entry)
            for replica in self._host.replicas.values()
            for entry in replica.log.entries
            if bucket in buckets_written_by(entry.operation)
        ]
        give_up = asyncio.get_running_loop().time() + limits.WRITE_TIMEOUT_S
        # If another node leads by now, its list shows those of them that it has.
        while any(replica.leading and not entry.settled for replica, entry in in_flight):
            if asyncio.get_running_loop().time() > give_up:
                raise Unavailable(f"writes to bucket {bucket} are still under way")
            await self._host.applier.applied()

    async def _order(self, shard: ShardId, write: Write) -> Version:
        try:
            committed = self.begin(shard, write)
        except GuardRefuses as no:
            return await self._refuse(shard, write, no)
        return await self.outcome(committed)

    def begin(self, shard: ShardId, write: Write) -> asyncio.Future[Version]:
        """Order the write; the future is for `outcome`. Raises GuardRefuses."""
        self._require_covered(shard, write.hash)
        try:
            return self._host.propose(shard, write)
        except (WriteFailed, AlreadyRefused, JournalFull) as error:
            raise error_of_order(error) from error

    async def outcome(self, committed: asyncio.Future[Version]) -> Version:
        """Waits until it is applied. Raises Unavailable, and what a refusal means."""
        try:
            return await committed
        except WriteFailed as error:
            raise Unavailable(str(error)) from error
        except AlreadyRefused as error:
            raise store_error(error.code) from error

    async def _was_made(self, shard: ShardId, request_id: bytes, age_s: float) -> Version | None:
        """The outcome of an earlier try of the request, if one was ordered (rule R16).

        Checked before any guard, because that try may have changed what the guard sees.
        """
        try:
            committed = self._host.made_before(shard, request_id, age_s)
        except WriteFailed as error:
            raise NotServed(str(error)) from error
        except OutcomeUnknown as error:
            raise OutcomeForgotten(str(error)) from error
        return None if committed is None else await self.outcome(committed)

    async def _refuse(self, shard: ShardId, write: Write, no: GuardRefuses) -> Version:
        """Raises what the refusal means, once all that it saw is committed (rules R3, R21).

        Unless another try has been ordered meanwhile: then that is the answer.
        """
        reason = self._host.reason_of(shard, no.ticket)
        if reason is not None:
            try:
                await reason
            except WriteFailed as error:  # What it saw may be undone; this try did nothing.
                raise NotServed(str(error)) from error
        if self._host.refuse(shard, write.request_id, no.ticket, no.refusal.code):
            raise store_error(no.refusal.code, no.refusal.text) from no
        made = await self._was_made(shard, write.request_id, 0.0)
        if made is None:
            raise NotServed(f"shard {shard_name(shard)} is moving") from no
        return made

    def require_copies(self, shard: ShardId, bucket: BucketId, error: type[Unavailable]) -> int:
        """See `_copies`. Raises `error` where one is missing, and the bucket is strict."""
        copies = self._copies(shard)
        if copies and self._buckets.is_strict(bucket):
            raise error(f"shard {shard_name(shard)} lacks a copy, and the bucket is strict")
        return copies

    def _copies(self, shard: ShardId) -> int:
        """How many members have what is committed; 0: as many as the pool keeps."""
        replica = self._host.replicas.get(shard)
        configuration = None if replica is None else replica.place.configuration
        if configuration is None:
            return 0
        copies = len(configuration.members)
        return copies if copies < self._pools[pool_of(shard)].replicas else 0

    def _acknowledged(
        self, shard: ShardId, bucket: BucketId, write: Write, version: Version
    ) -> Done:
        """A strict bucket's write that has lost a copy meanwhile is not acknowledged."""
        copies = self.require_copies(shard, bucket, Unavailable)
        epoch, seq = version
        return Done(copies, epoch or self._epoch_of(write.operation, seq), seq)

    def _epoch_of(self, operation: Operation, seq: Seq) -> Epoch:
        """The epoch in which `seq` was ordered, if the object is still that version; else 0."""
        if not isinstance(operation, PutObject | CompleteUpload):
            return Epoch(0)
        stored = self._index.get(object_key(operation.bucket, operation.key))
        ordered = None if stored is None else decode_ordered(stored)
        return ordered.epoch if ordered is not None and ordered.seq == seq else Epoch(0)

    def present(self, shard: ShardId, bucket: BucketId, keys: Collection[bytes]) -> list[bytes]:
        """Those that are not certainly absent, by a primary with nothing under way for them."""
        if not self._host.serves(shard):
            return list(keys)
        dirty, get = self._host.replicas[shard].log.dirty, self._index.get
        present = []
        for key in keys:
            index_key = object_key(bucket, key)
            if index_key in dirty or get(index_key) is not None:
                present.append(key)
            else:
                self._require_covered(shard, object_hash(bucket, key))
        return present

    async def read_upload(
        self, shard: ShardId, bucket: BucketId, key: bytes, upload: bytes
    ) -> UploadRow:
        """Raises NoSuchUpload."""
        index_key = upload_key(bucket, key, upload)
        await self._settled(shard, index_key)
        self._require_covered(shard, object_hash(bucket, key))
        value = self._index.get(index_key)
        if value is None:
            raise NoSuchUpload(upload.hex())
        return decode_upload(value).row

    def _require_covered(self, shard: ShardId, hash_: int) -> None:
        """Refuses any key that a split has moved out of `shard` (R18)."""
        if not self._host.covers(shard, hash_):
            raise NotServed(f"shard {shard_name(shard)} does not have this key any more")

    async def _settled(self, shard: ShardId, index_key: bytes) -> None:
        """Wait until nothing that is prepared touches `index_key`; this node serves the shard."""
        give_up = asyncio.get_running_loop().time() + limits.WRITE_TIMEOUT_S
        while not self._host.settled(shard, index_key):
            if not self._host.serves(shard) or asyncio.get_running_loop().time() > give_up:
                raise NotServed(f"shard {shard_name(shard)} cannot settle this key now")
            await self._host.applier.applied()

    # -- reads ---------------------------------------------------------------------------------

    def read_object(
        self, shard: ShardId, hash_: int, bucket: BucketId, key: bytes, with_data: bool
    ) -> StoredObject | None:
        """The committed object, with its bytes when they are in its record and wanted."""
        index_key = object_key(bucket, key)
        ticket = self._host.begin_read(shard, index_key)
        if ticket is None or not self._host.covers(shard, hash_):
            raise AskPrimary(shard_name(shard))
        try:
            stored = self._stored_object(index_key, with_data)
        except IndexDamage as damage:
            raise AskPrimary(str(damage)) from damage
        if with_data and stored is not None and stored.data is None:
            self.reads.hold(stored.row.extents[0])  # Before checking that the row is current.
        if not self._host.read_holds(shard, ticket):  # This process may have been paused meanwhile.
            raise AskPrimary(shard_name(shard))
        return stored

    async def read_applied_object(
        self, shard: ShardId, hash_: int, bucket: BucketId, key: bytes, with_data: bool
    ) -> StoredObject | None:
        """`read_object` at the primary once the index shows what is committed; else AskPrimary."""
        while self._host.serves(shard) and self._host.covers(shard, hash_):
            await self._host.applier.applied()
            with suppress(AskPrimary):
                return self.read_object(shard, hash_, bucket, key, with_data)
        raise AskPrimary(shard_name(shard))

    def _stored_object(self, index_key: bytes, with_data: bool) -> StoredObject | None:
        value = self._index.get(index_key)
        if value is None:
            return None
        indexed: IndexedObject = decode_object(value)
        row, version = indexed.row, (indexed.epoch, indexed.seq)
        if not with_data or row.extents or row.size == 0:
            return StoredObject(row, None if row.extents else b"", version)
        return StoredObject(row, self._read(indexed.location), version)

    def find_piece(self, shard: ShardId, extent: bytes, number: int) -> Location:
        """Where a piece lies here. Pieces never change, so one that is there is the right one."""
        index_key = piece_key(extent, number)
        try:
            value = self._index.get(index_key)
        except IndexDamage as damage:
            raise AskPrimary(str(damage)) from damage
        if value is None:
            raise AskPrimary(shard_name(shard))
        return decode_piece(value).location

    async def read_piece(self, shard: ShardId, extent: bytes, number: int) -> memoryview:
        """A piece's bytes, read in a thread if they have to come from the disk."""
        location = self.find_piece(shard, extent, number)
        try:
            cached = self._journal.read_if_cached(location)
        except CorruptRecord as error:
            raise Damaged(str(error)) from error
        except OSError as error:  # Its file could not be opened now.
            raise Unavailable(str(error)) from error
        if cached is not None:
            return cached.data
        try:
            return await asyncio.to_thread(self._read, location)
        except Damaged:
            # Compaction may have moved it while the thread was waited for, and its file is gone.
            if self.find_piece(shard, extent, number) == location:
                raise
            return await self.read_piece(shard, extent, number)

    def _read(self, location: Location) -> memoryview:
        try:
            return self._journal.read(location).data
        except CorruptRecord as error:
            log.error("%s", error)  # Another member's copy may be served instead.
            raise Damaged(str(error)) from error
        except OSError as error:  # Its file could not be opened now.
            raise Unavailable(str(error)) from error

    async def listed_shards(self, pool: PoolId, among: Collection[ShardId] = ()) -> ListedShards:
        """What this node may list of `pool` now, or of these shards of it: read it at once."""
        listed = ListedShards(self._host, self._led, pool, among)
        await listed.until_shown()
        return listed

    def list_keys(
        self, bucket: BucketId, query: ListQuery, prefixes: int, listed: ListedShards
    ) -> tuple[list[ListEntry], bytes, bool]:
        """From the shards in `listed`: (entries, complete up to, nothing is left)."""
        return scan_keys(self._index.cursor, bucket, query, prefixes, *listed.places())

    async def list_parts(
        self, shard: ShardId, bucket: BucketId, key: bytes, upload: bytes, after: int, limit: int
    ) -> list[tuple[int, PartRow]]:
        """Up to `limit` parts with numbers above `after`; raises NoSuchUpload."""
        listed = await self.listed_shards(pool_of(shard), (shard,))
        await self.read_upload(shard, bucket, key, upload)
        parts = self._parts(bucket, key, upload, after, limit)
        if not listed.covered()[0]:
            raise NotServed(f"shard {shard_name(shard)} cannot be listed here now")
        return parts

    def _parts(
        self, bucket: BucketId, key: bytes, upload: bytes, after: int = 0, limit: int | None = None
    ) -> list[tuple[int, PartRow]]:
        start = part_key(bucket, key, upload, after + 1)
        parts: list[tuple[int, PartRow]] = []
        for index_key, value in self._index.scan(start, past(parts_prefix(bucket, key, upload))):
            if limit is not None and len(parts) >= limit:
                break
            parts.append((decode_part_key(index_key).number, decode_part(value).row))
        return parts

    def list_uploads(
        self,
        bucket: BucketId,
        prefix: bytes,
        after: tuple[bytes, bytes],
        limit: int,
        listed: ListedShards,
    ) -> list[tuple[bytes, bytes, UploadRow]]:
        """Open uploads past (key, upload id) in the shards in `listed`."""
        depth, numbers = listed.places()
        _, end = uploads_range(bucket)
        start = upload_key(bucket, max(after[0], prefix), bytes(UPLOAD_ID_BYTES))
        uploads: list[tuple[bytes, bytes, UploadRow]] = []
        for index_key, value in self._index.scan(start, end):
            parsed = decode_upload_key(index_key)
            if not parsed.key.startswith(prefix):
                break
            if (parsed.key, parsed.upload_id) <= after:
                continue
            if shard_number(object_hash(bucket, parsed.key), depth) in numbers:
                uploads.append((parsed.key, parsed.upload_id, decode_upload(value).row))
                if len(uploads) >= limit:
                    break
        return uploads
