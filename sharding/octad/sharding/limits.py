"""Limits that several files share, or hold only together. The others stand where they are used.

Unit in the name, reason or precedent in the comment.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# Placement.
SHARD_DEPTH_MAX: Final = 18  # 262,144 shards: the largest cluster the assignment is measured for.
SHARD_DEPTH_DEFAULT: Final = 8  # 256 shards serve clusters of up to about 24 nodes.
REPLICAS_ALLOWED: Final = (1, 2, 3)
NODE_ID_MAX: Final = 65_535  # Two bytes in the compact shard map.
NODE_WEIGHT_MAX: Final = 1_000_000.0

# S3 (Amazon S3 user guide, "Bucket naming rules", "Multipart upload limits").
KEY_BYTES_MAX: Final = 1024
PUT_BYTES_MAX: Final = 5 * GIB
OBJECT_BYTES_MAX: Final = 5 * 1024 * GIB
PART_NUMBER_MAX: Final = 10_000
PART_BYTES_MIN: Final = 5 * MIB
LIST_KEYS_MAX: Final = 1000
XML_BODY_BYTES_MAX: Final = 2 * MIB
PRESIGN_EXPIRY_S_MAX: Final = 7 * 24 * 3600

# Where an object's bytes go: its journal record up to here, extents beyond.
INLINE_BYTES_MAX: Final = 128 * KIB
EXTENT_BYTES_MAX: Final = 64 * MIB
PIECE_BYTES_MAX: Final = MIB

# Memory of a node for what clients send, and what a node has under way to the primaries of pieces,
# all of them together: a share of its own, so that doors cannot wait for each other.
BODY_BUDGET_BYTES_MIN: Final = 16 * MIB
# Bodies of up to INLINE_BYTES_MAX have this share to themselves: none waits behind large ones.
SMALL_BODIES_SHARE: Final = 1 / 8
BODY_STEP_S: Final = 2.0  # How long a body may stall before it makes way for others.
SHORT_PIECES_MAX: Final = 24  # Per body: an object's row still holds 10,000 parts of them.
assert SMALL_BODIES_SHARE * BODY_BUDGET_BYTES_MIN >= 8 * INLINE_BYTES_MAX
assert (1 - SMALL_BODIES_SHARE) * BODY_BUDGET_BYTES_MIN >= 8 * PIECE_BYTES_MAX

# The journal of a node.
SEGMENT_BYTES: Final = 64 * MIB  # Recycled and compacted as a whole; a record never crosses one.
RECORD_METADATA_BYTES_MAX: Final = 8 * MIB  # A 5 TiB object names 81,920 extents of 20 bytes each.
RECORD_DATA_BYTES_MAX: Final = 8 * MIB
JOURNAL_OPEN_FILES_MAX: Final = 256  # For reading; fewer where the limit of open files is low.
DISK_FREE_BYTES_MIN: Final = 256 * MIB  # Two segments, and the index's next flush and compaction.


# Connections from any client; the limit of open files may allow fewer: `open_file_shares.py`.
CLIENT_CONNECTIONS_MAX: Final = 8192  # S3 clients' heads take at most 256 MiB.
ADMIN_CONNECTIONS_MAX: Final = 32
LOG_CONNECTIONS_MAX: Final = 1024  # Each may wait at the end of a partition.
TURNED_AWAY_MAX: Final = 32  # Per listener: connections over its limit that get a refusal.

# Frames between nodes: a piece with its record's metadata and room to spare.
FRAME_BODY_BYTES_MAX: Final = 2 * MIB

# Configuration store. etcd refuses by default a request past 1.5 MiB and past 128 operations.
STORE_TRANSACTION_OPERATIONS_MAX: Final = 128
STORE_TRANSACTION_BYTES_MAX: Final = MIB

# Connections between nodes. A beat is a node's own tick, so that its own pauses count as one.
RPC_BEAT_S: Final = 0.25
RPC_PING_BEATS: Final = 3  # Silent beats before it asks whether anyone is there.
RPC_SUSPECT_BEATS: Final = 5  # Two of them unanswered: calls to it fail at once.
RPC_SILENT_BEATS_MAX: Final = 8  # Two seconds: a frozen or cut-off peer is let go.
RPC_UNSEEN_S_MAX: Final = 4.0  # A process that did not run for so long trusts no old bytes.
RPC_WAITING_S_MAX: Final = 5.0  # A request that could not leave by then is dropped.
RPC_TRANSIT_S_MAX: Final = 10.0  # Bounds a request's time on its way: see rpc.md.
RPC_HANDSHAKES_MAX: Final = 128  # Strangers at a time.
RPC_CONNECT_S_MAX: Final = 0.6  # With the pause: a healed link is used within a second.
RPC_RECONNECT_S_MAX: Final = 0.4
RPC_WRITE_HIGH_WATER_BYTES: Final = 4 * MIB  # Above this, who can wait should.
RPC_OUTGOING_BYTES_MAX: Final = 64 * MIB  # Above this, messages are dropped and calls fail.
RPC_ANSWER_BYTES_MAX: Final = 256 * MIB  # Above this, an answer becomes an error.
RPC_CALLS_MAX: Final = 4096  # Under way to one peer.
RPC_REQUESTS_MAX: Final = 2 * RPC_CALLS_MAX  # Worked on for one peer: it may have given up some.

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
ANNOUNCE_DELAY_S: Final = 0.005  # How long a commit point waits for a Prepare to carry it.
CALL_TIMEOUT_S: Final = WRITE_TIMEOUT_S + 5.0  # For a call that may wait for a write.
READ_TIMEOUT_S: Final = 5.0
assert RECORD_METADATA_BYTES_MAX + RECORD_DATA_BYTES_MAX <= SEGMENT_BYTES // 2
assert PIECE_BYTES_MAX <= RECORD_DATA_BYTES_MAX
assert (
    PART_NUMBER_MAX * SHORT_PIECES_MAX + OBJECT_BYTES_MAX // EXTENT_BYTES_MAX
) * 24 < RECORD_METADATA_BYTES_MAX, "a row names all extents of an object, in 24 bytes each"

# Membership.
SERVICE_INSTANCES_MAX: Final = 256  # Per session, because a renewal reads each of them.

READER_PIN_S: Final = 30.0  # How long a file stays that a reader may still open.

# Giving extents back that nothing names.
FULL_REMEMBERED_S: Final = 60.0  # Space dead by then is returned as on a full disk.
EXTENTS_DROPPED_AT_ONCE: Final = 8  # Replicated writes of 100 bytes each, beside those of clients.
ORPHAN_GRACE_S: Final = 24 * 3600.0  # Before it is asked whether the commit of an extent came.
ORPHAN_SWEEP_PERIOD_S: Final = 6 * 3600.0

# Reading everything again: a node's whole journal in a week, a little faster to end in time.
SCRUB_PERIOD_S: Final = 7 * 24 * 3600

# Counting the rows of all shards anew, in the same period and after each start.
COUNT_POLL_S: Final = 1.0

# Comparing copies of shards by their digests.
DIGEST_POLL_S: Final = 0.005
DIGEST_WAIT_S: Final = 1.0  # For a replica to reach the entry that it is asked about.
DIGEST_CALL_TIMEOUT_S: Final = 5.0
assert DIGEST_WAIT_S < DIGEST_CALL_TIMEOUT_S

# Leases between nodes, on monotonic clocks that count suspension. A holder measures from when it
# asked, a grantor from when it answered, so that a lease ends before the grantor's wait does.
BEAT_S: Final = 0.25
LEASE_S: Final = 1.0
GRACE_S: Final = 1.5
CLOCK_DRIFT_MAX: Final = 0.01  # Seconds per second, fast or slow; quartz is a hundred times better.
GRACE_SLACK_S: Final = 0.25
BOOT_PATIENCE_S: Final = 10.0  # From a boot on, for nodes not heard since: they may be starting.
READ_GRANT_S_MIN: Final = LEASE_S / 2  # A shorter rest of a lease is not passed on to readers.
MEMBER_STUCK_S: Final = 5.0  # A member that beats but acknowledges nothing is removed after this.
RESEND_S: Final = 1.0  # Silence after which what is not acknowledged is sent again.
assert BEAT_S * 3 < LEASE_S, "two lost beats do not cost a lease"
assert LEASE_S * (1 + CLOCK_DRIFT_MAX) / (1 - CLOCK_DRIFT_MAX) + GRACE_SLACK_S <= GRACE_S
assert BOOT_PATIENCE_S > MEMBER_STUCK_S, "a client who waits ends it"
assert READ_GRANT_S_MIN >= 2 * BEAT_S, "a read lease outlives the wait for the next one"

# A shard's log: what is prepared and not applied, and the ids of requests that were ordered.
REQUEST_RETRY_S_MAX: Final = 30.0  # The front door's patience with its own retries.
SDK_RETRY_AGE_S: Final = 30.0  # An SDK's later attempt is taken to be this much after its first.
REQUEST_IDS_S: Final = 70.0
assert REQUEST_RETRY_S_MAX + SDK_RETRY_AGE_S + RPC_TRANSIT_S_MAX <= REQUEST_IDS_S, (
    "the last try is still recognized, however long it was on its way"
)
assert REQUEST_RETRY_S_MAX <= SDK_RETRY_AGE_S, "a front door's own tries look younger than an SDK's"

# Copying a shard's history from another node.
HISTORY_PAGE_ROWS: Final = 1024  # Compared in one go: 10 ms of both nodes, in steps.
HISTORY_STEP_ROWS: Final = 64  # Looked at between two requests of clients.
HISTORY_MESSAGE_BYTES: Final = MIB  # The records in one message; a longer one is sent alone.
HISTORY_MESSAGE_RECORDS: Final = 256
assert HISTORY_MESSAGE_BYTES + 2 * KIB <= FRAME_BODY_BYTES_MAX
