"""All limits in one place. Unit in the name, reason or precedent in the comment."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# Placement.
SHARD_DEPTH_MIN: Final = 0
SHARD_DEPTH_MAX: Final = 18  # 262,144 shards: the largest cluster the assignment is measured for.
SHARD_DEPTH_DEFAULT: Final = 8  # 256 shards serve clusters of up to about 24 nodes.
REPLICAS_ALLOWED: Final = (1, 2, 3)
NODE_ID_MAX: Final = 65_535  # Two bytes in the compact shard map.
NODE_WEIGHT_MAX: Final = 1_000_000.0

# S3 (Amazon S3 user guide, "Bucket naming rules", "Multipart upload limits").
KEY_BYTES_MAX: Final = 1024
METADATA_BYTES_MAX: Final = 2 * KIB
PUT_BYTES_MAX: Final = 5 * GIB
OBJECT_BYTES_MAX: Final = 5 * 1024 * GIB
PART_NUMBER_MAX: Final = 10_000
PART_BYTES_MIN: Final = 5 * MIB
LIST_KEYS_MAX: Final = 1000
DELETE_KEYS_MAX: Final = 1000
XML_BODY_BYTES_MAX: Final = 2 * MIB
CLOCK_SKEW_S_MAX: Final = 15 * 60
PRESIGN_EXPIRY_S_MAX: Final = 7 * 24 * 3600
CHUNK_BYTES_MIN: Final = 8 * KIB  # Of aws-chunked, but for the last chunk.
CHUNK_HEADER_BYTES_MAX: Final = 256  # Size in hex and a signature take 100.
TRAILER_BYTES_MAX: Final = 2 * KIB  # A checksum and a signature take 200.

# Where an object's bytes go: its journal record up to here, extents beyond.
INLINE_BYTES_MAX: Final = 128 * KIB
EXTENT_BYTES_MAX: Final = 64 * MIB
PIECE_BYTES_MAX: Final = MIB

# Memory of a node for what clients send, and what a node has under way to the primaries of pieces,
# all of them together: a share of its own, so that doors cannot wait for each other.
BODY_BUDGET_BYTES: Final = 256 * MIB
BODY_BUDGET_BYTES_MIN: Final = 16 * MIB
SMALL_BODIES_SHARE: Final = 1 / 8  # Of the budget; no small body waits behind large ones.
PIECES_UNDER_WAY_BYTES: Final = 64 * MIB
BODY_STEP_S: Final = 2.0  # So long a body may take for a little before it makes way for others.
BODY_WANTED_S_MAX: Final = 10.0  # Its bytes do not come, and others wait for its memory.
BODY_STALLED_S_MAX: Final = 60.0  # The same when nobody waits.
SHORT_PIECES_MAX: Final = 24  # Of a body: 10,000 parts of them still fit into an object's row.
assert SMALL_BODIES_SHARE * BODY_BUDGET_BYTES_MIN >= 8 * INLINE_BYTES_MAX
assert (1 - SMALL_BODIES_SHARE) * BODY_BUDGET_BYTES_MIN >= 8 * PIECE_BYTES_MAX

# What the C library keeps of memory that was freed.
HEAP_ARENAS_MAX: Final = 2  # Threads of a node mostly hash and read: they hardly allocate.
HEAP_SLACK_BYTES_MAX: Final = 16 * MIB
HEAP_LOOK_S: Final = 5.0

# The journal of a node.
SEGMENT_BYTES: Final = 64 * MIB  # Recycled and compacted as a whole; a record never crosses one.
RECORD_METADATA_BYTES_MAX: Final = 8 * MIB  # A 5 TiB object names 81,920 extents of 20 bytes each.
RECORD_DATA_BYTES_MAX: Final = 8 * MIB
JOURNAL_PENDING_BYTES_MAX: Final = 32 * MIB  # Bulk writers wait while more is not yet durable.
JOURNAL_OPEN_FILES_MAX: Final = 256  # For reading; fewer where the limit of open files is low.
DISK_FREE_BYTES_MIN: Final = 256 * MIB  # Two segments, and the index's next flush and compaction.

DELETES_ON_A_FULL_DISK: Final = 1_000_000  # That it has room for, once it takes no more puts.

# The index of a node. Filters and block indexes of all its files stay in memory, 3 bytes a small
# object. Its cache grows with it, for rows that are asked for again: 10 bytes a small object.
INDEX_MEMTABLE_BYTES: Final = 16 * MIB
INDEX_MEMTABLES_MAX: Final = 3  # One being filled, two on their way to disk.
INDEX_CACHE_BYTES_MIN: Final = 8 * MIB
INDEX_CACHE_SHARE: Final = 1 / 12
INDEX_OPEN_FILES: Final = 128  # Of 128 MiB each; more where the limit of open files is higher.
INDEX_BLOCK_BYTES: Final = 2 * KIB  # What a get reads.

# Connections from whoever comes; the limit of open files may allow fewer: `open_file_shares.py`.
CLIENT_CONNECTIONS_MAX: Final = 8192  # Of S3: heads of strangers then take 256 MiB at most.
CLIENT_HEAD_BYTES_MAX: Final = 16 * KIB  # S3 allows 8, and a presigned query as much again.
ADMIN_CONNECTIONS_MAX: Final = 32
TURNED_AWAY_MAX: Final = 32  # Of each listener: connections beyond its room that are told so.
CONTROL_CONNECTIONS_MAX: Final = 4096  # Of a coordinator: twice its watchers.
STORE_CONNECTIONS_MAX: Final = 256  # Of the embedded store, on loopback.
STORE_CONNECTIONS_OF_ONE: Final = 16  # Of one node, its watches among them.

# Frames between nodes: a piece with its record's metadata and room to spare.
FRAME_HEADER_BYTES_MAX: Final = 8 * MIB  # A page of 1,000 keys with metadata is the largest header.
FRAME_BODY_BYTES_MAX: Final = 2 * MIB

# Signed internal HTTP: how far two clocks may differ, how many requests are remembered meanwhile.
REQUEST_SKEW_MS_MAX: Final = 300_000
REPLAY_NONCES_MAX: Final = 100_000

# Configuration store. etcd refuses by default a request past 1.5 MiB and past 128 operations.
STORE_TRANSACTION_OPERATIONS_MAX: Final = 128
STORE_TRANSACTION_BYTES_MAX: Final = MIB
STORE_HISTORY_REVISIONS_MAX: Final = 10_000  # Kept by the embedded store for watches.
STORE_HISTORY_BYTES_MAX: Final = 64 * MIB
STORE_WATCH_EVENTS_MAX: Final = 1000  # In one batch, but for the rest of its last revision.

# Connections between nodes. A beat is a node's own tick, so that its own pauses count as one.
RPC_BEAT_S: Final = 0.25
RPC_PING_BEATS: Final = 3  # Silent beats before it asks whether anybody is there.
RPC_SUSPECT_BEATS: Final = 5  # Two of them unanswered: calls to it fail at once.
RPC_SILENT_BEATS_MAX: Final = 8  # Two seconds: a frozen or cut-off peer is let go.
RPC_UNSEEN_S_MAX: Final = 4.0  # A process that did not run for so long trusts no old bytes.
RPC_WAITING_S_MAX: Final = 5.0  # A request that could not leave by then is dropped.
RPC_TRANSIT_S_MAX: Final = 10.0  # So that no request is longer on its way: see rpc.md.
RPC_HANDSHAKE_BEATS_MAX: Final = 6  # From the first byte to the last proof.
RPC_HANDSHAKE_BYTES_MAX: Final = 512  # Read from strangers, so no more than it takes.
RPC_TLS_HANDSHAKE_BYTES_MAX: Final = 64 * KIB  # The same with TLS: chains of certificates.
RPC_HANDSHAKES_MAX: Final = 128  # Strangers at a time.
RPC_RESOLVE_S_MAX: Final = 3.0
RPC_CONNECT_S_MAX: Final = 0.6  # With the pause: a healed link is used within a second.
RPC_RECONNECT_S_MIN: Final = 0.05
RPC_RECONNECT_S_MAX: Final = 0.4
RPC_BATCH_BYTES_MAX: Final = 256 * KIB  # Written at once, even within a loop tick.
RPC_SOCKET_BYTES_MAX: Final = 256 * KIB  # Handed on before the kernel takes it: out of our order.
RPC_TICK_BYTES_MAX: Final = MIB  # Read from one peer before anything else has its turn.
RPC_RECEIVE_BYTES: Final = MIB  # That the kernel keeps for us; it doubles this for itself.
RPC_WRITE_HIGH_WATER_BYTES: Final = 4 * MIB  # Above this, who can wait should.
RPC_OUTGOING_BYTES_MAX: Final = 64 * MIB  # Above this, messages are dropped and calls fail.
RPC_OUTGOING_FRAMES_MAX: Final = 64 * KIB
RPC_ANSWER_BYTES_MAX: Final = 256 * MIB  # Above this, an answer becomes an error.
RPC_URGENT_FRAMES_MAX: Final = 16 * KIB  # Above this, it reads nothing: the connection is dropped.
RPC_URGENT_CALL_BYTES_MAX: Final = KIB  # A call of that size without a body passes bulk.
RPC_CALLS_MAX: Final = 4096  # Under way to one peer.
RPC_REQUESTS_MAX: Final = 2 * RPC_CALLS_MAX  # Worked on for one peer: it may have given up some.
RPC_REQUEST_BYTES_MAX: Final = 256 * MIB  # Of their bodies.
RPC_REFUSAL_LOG_S: Final = 60.0  # One line a peer in this time.

assert EXTENT_BYTES_MAX % PIECE_BYTES_MAX == 0, "an extent is whole pieces but for its last"
assert INLINE_BYTES_MAX < PIECE_BYTES_MAX < FRAME_BODY_BYTES_MAX
assert (
    RPC_WAITING_S_MAX + max(RPC_UNSEEN_S_MAX, RPC_BEAT_S * RPC_SILENT_BEATS_MAX) < RPC_TRANSIT_S_MAX
)
assert RPC_PING_BEATS < RPC_SUSPECT_BEATS < RPC_SILENT_BEATS_MAX, "asked before it is suspected"
assert RPC_CONNECT_S_MAX + RPC_RECONNECT_S_MAX <= 1.0, "a healed link is used within a second"
assert RPC_WRITE_HIGH_WATER_BYTES < RPC_OUTGOING_BYTES_MAX < RPC_ANSWER_BYTES_MAX

# Replication.
WRITE_TIMEOUT_S: Final = 10.0  # A write that waits longer for its members has an unknown outcome.
WRITE_TIMEOUT_SWEEP_S: Final = 0.5
PREPARES_BYTES_MAX: Final = 64 * KIB  # Of the entries in one message, when there are several.
ANNOUNCE_DELAY_S: Final = 0.005  # How long a commit point waits for a Prepare to carry it.
CALL_TIMEOUT_S: Final = WRITE_TIMEOUT_S + 5.0  # Of a call that may wait for a write.
READ_TIMEOUT_S: Final = 5.0
READ_ELSEWHERE_S: Final = 0.5  # Of silence; then another member is asked, if there is one.
SLOW_NODE_S: Final = 2.0  # How long a node that was silent is asked last.
assert RECORD_METADATA_BYTES_MAX + RECORD_DATA_BYTES_MAX <= SEGMENT_BYTES // 2
assert PIECE_BYTES_MAX <= RECORD_DATA_BYTES_MAX
assert (
    PART_NUMBER_MAX * SHORT_PIECES_MAX + OBJECT_BYTES_MAX // EXTENT_BYTES_MAX
) * 24 < RECORD_METADATA_BYTES_MAX, "a row names all extents of an object, in 24 bytes each"

# Membership.
NODE_LEASE_S: Final = 10.0  # A hint of liveness, not a promise; renewed three times as often.
REPORT_S_MIN: Final = 2.0  # Between two reports of a node on its shards.
SERVICE_TTL_S_MIN: Final = 2.0  # etcd rounds shorter leases up.
SERVICE_TTL_S_MAX: Final = 86_400.0
SERVICE_RECORD_BYTES_MAX: Final = 4 * KIB
SERVICE_LABELS_MAX: Final = 32
SERVICE_INSTANCES_MAX: Final = 256  # Of one session: a renewal reads each of them.
SERVICE_CLAIMS_MAX: Final = 1_000  # Processes that had one name and may still live.
WATCH_WAIT_S_MAX: Final = 60.0  # A long poll; proxies often cut idle connections after this.
WATCH_CHANGES_KEPT_MAX: Final = 10_000  # Of one coordinator, for watchers that come back.
WATCH_CHANGES_READ_BACK: Final = 2_000  # Revisions, by a coordinator that has just started.
WATCHERS_MAX: Final = 2_000

# What a restart may have to replay, at most: bytes of journal that the flushed index does not show.
INDEX_FLUSH_AFTER_BYTES: Final = 128 * MIB
INDEX_FLUSH_POLL_S: Final = 1.0
INDEX_FLUSH_AFTER_RECORDS: Final = 60_000  # Replayed at 20,000 a second and more.

# Giving space back. One step is what may stand between two requests: a third of a millisecond.
COMPACTION_STEP_BYTES: Final = 64 * KIB
COMPACTION_STEP_RECORDS: Final = 32
COMPACTION_STEP_GROWTH_MAX: Final = 4  # When it hurries.
COMPACTION_STEP_S_MIN: Final = 0.005
COMPACTION_BYTES_PER_S: Final = 8 * MIB  # Copied, so that clients keep most of the disk.
COMPACTION_POLL_S: Final = 2.0
READER_PIN_S: Final = 30.0  # How long a file stays that a reader may just have been sent to.
FULL_READER_PIN_S: Final = 1.0  # The same on a full disk.
SPARE_SEGMENTS_MAX: Final = 4

# Giving extents back that nothing names.
EXTENT_PIN_S: Final = 300.0  # A reader of a deleted object has as long as this to finish.
FULL_PIN_ROUND_S: Final = 1.0  # On a full disk: no longer than its longest running read has.
DOOR_ASKED_S_MAX: Final = 1.0  # For that, of a door; one that is silent has the pin.
FULL_REMEMBERED_S: Final = 60.0  # What is dead by then gives its space back as on a full disk.
GIVE_BACK_S_MAX: Final = 1.0  # A request that failed waits for no longer than this for that.
QUEUE_STEP_ENTRIES: Final = 64
EXTENTS_DROPPED_AT_ONCE: Final = 8  # Replicated writes of 100 bytes each, beside those of clients.
ORPHAN_GRACE_S: Final = 24 * 3600.0  # Before it is asked whether the commit of an extent came.
ORPHAN_SWEEP_PERIOD_S: Final = 6 * 3600.0
ORPHAN_SWEEP_STEP_PIECES: Final = 128
ORPHAN_SWEEP_PAUSE_S: Final = 0.25  # 500 MiB of pieces a second: 10 TiB in under six hours.

# Reading everything again: a node's whole journal in a week, a little faster to end in time.
SCRUB_PERIOD_S: Final = 7 * 24 * 3600
SCRUB_STEP_BYTES: Final = 256 * KIB
SCRUB_BYTES_PER_S_MIN: Final = 256 * KIB
MEND_AGAIN_S: Final = 60.0  # From one try to the next, while no member has a whole copy.
DAMAGED_RECORDS_KEPT_MAX: Final = 10_000  # To be tried again; a disk with more is to be replaced.

# Counting the rows of all shards anew, in the same period and after each start.
COUNT_STEP_ROWS: Final = 64  # Between two requests of clients: half a millisecond.
COUNT_SHARE: Final = 0.05  # Of a core.
COUNT_SHARE_SOON: Final = 0.2  # The same, of what is not known or asked for.
COUNT_POLL_S: Final = 1.0

# Comparing copies of shards by their digests.
DIGEST_POLL_S: Final = 0.005
DIGEST_WAIT_S: Final = 1.0  # For a replica to reach the entry that it is asked about.
DIGEST_CALL_TIMEOUT_S: Final = 5.0
DIGEST_SHARDS_MAX: Final = 1024  # In one message.
COMPARE_POLL_S: Final = 1.0
COMPARE_FIRST_S: Final = 5.0  # A shard that begins to be served is not said to have no copy.
COMPARE_PERIOD_S: Final = 60.0  # From one comparison of a copy to the next, unless its row changes.
assert DIGEST_WAIT_S < DIGEST_CALL_TIMEOUT_S

# What a node tells of what it holds. A step of counting takes half a millisecond.
USAGE_FIRST_PERIOD_S: Final = 5.0  # After a start, when shards come and go.
USAGE_FIRST_REPORTS: Final = 12
USAGE_PERIOD_S: Final = 60.0
USAGE_COUNT_ROWS: Final = 128
USAGE_COUNT_PAUSE_S: Final = 0.02
USAGE_FREE_STEP: Final = 0.01  # Of the disk: a smaller change of free bytes alone is no news.

# Leases between nodes, on monotonic clocks that count suspension. A holder measures from when it
# asked, a grantor from when it answered, so that a lease ends before the grantor's wait does.
BEAT_S: Final = 0.25
LEASE_S: Final = 1.0
GRACE_S: Final = 1.5
CLOCK_DRIFT_MAX: Final = 0.01  # Of a second, each way; quartz is a hundred times better.
GRACE_SLACK_S: Final = 0.25
ISOLATED_WAIT_S: Final = 1.5  # Added to the grace of a node that hears few of the others.
BOOT_PATIENCE_S: Final = 10.0  # From a boot on, for nodes not heard since: they may be starting.
READ_GRANT_S_MIN: Final = LEASE_S / 2  # A shorter rest of a lease is not passed on to readers.
MEMBER_STUCK_S: Final = 5.0  # A member that beats but acknowledges nothing is removed after this.
RECRUIT_AGAIN_S: Final = 10.0  # Before a node that beats and was removed all the same is a spare.
RESEND_S: Final = 1.0  # Silence after which what is not acknowledged is sent again.
RESEND_ENTRIES_MAX: Final = 64
TAKEOVER_STAGGER_S: Final = 0.3  # By place in the row: a tick, and a swap in the store.
DRAIN_S_MAX: Final = 1.0  # A hand-over or split that cannot empty the tail by then is put off.
assert BEAT_S * 3 < LEASE_S, "two lost beats do not cost a lease"
assert LEASE_S * (1 + CLOCK_DRIFT_MAX) / (1 - CLOCK_DRIFT_MAX) + GRACE_SLACK_S <= GRACE_S
assert BOOT_PATIENCE_S > MEMBER_STUCK_S, "a client who waits ends it"
assert READ_GRANT_S_MIN >= 2 * BEAT_S, "a read lease outlives the wait for the next one"

# A shard's log: what is prepared and not applied, and the ids of requests that were ordered.
LOG_ENTRIES_MAX: Final = 4096
REQUEST_RETRY_S_MAX: Final = 30.0  # The front door's patience with its own retries.
RETRY_PAUSE_S_MIN: Final = 0.02  # Between two tries; doubled up to the next line.
RETRY_PAUSE_S_MAX: Final = 0.25
SDK_RETRY_AGE_S: Final = 30.0  # An SDK's later attempt is taken to be this much after its first.
REQUEST_IDS_S: Final = 70.0
REQUEST_IDS_MAX: Final = 8192  # A shard; past this, late retries are answered "unknown".
assert REQUEST_RETRY_S_MAX + SDK_RETRY_AGE_S + RPC_TRANSIT_S_MAX <= REQUEST_IDS_S, (
    "the last try is still recognized, however long it was on its way"
)
assert REQUEST_RETRY_S_MAX <= SDK_RETRY_AGE_S, "a front door's own tries look younger than an SDK's"

# Copying a shard's history from another node.
HISTORY_PAGE_ROWS: Final = 1024  # Compared in one go: 10 ms of both nodes, in steps.
HISTORY_STEP_ROWS: Final = 64  # Looked at between two requests of clients.
HISTORY_MESSAGE_BYTES: Final = MIB  # Of records; one that is longer travels alone.
HISTORY_MESSAGE_RECORDS: Final = 256
HISTORY_CALLS: Final = 4  # Of one copy, under way at a time.
HISTORY_COPIES: Final = 24  # Shards copied at a time; the others wait.
HISTORY_CALLS_OF_ALL: Final = 24  # Of all copies of a node, so 24 MiB and what is not durable yet.
HISTORY_CALLS_BESIDE_CLIENTS: Final = 4  # The same while clients write: little for them to pass.
HISTORY_CLIENTS_S: Final = 0.2  # How long clients count as writing after a record of theirs.
HISTORY_FLUSH_S: Final = 0.1  # From one flush of the index for complete copies to the next.
HISTORY_CALL_TIMEOUT_S: Final = 10.0
HISTORY_RETRY_S_MIN: Final = 0.05  # After every source has failed once; doubled each time.
HISTORY_RETRY_S_MAX: Final = 2.0
HISTORY_UNEQUAL_S: Final = 5.0  # After a copy was not what its source has for the second time.
HISTORY_PAUSE_S_MAX: Final = 0.1  # While clients write, a copy takes at most half of the time.
assert HISTORY_MESSAGE_BYTES + 2 * KIB <= FRAME_BODY_BYTES_MAX
