"""Keeps the ids of recently applied requests across a restart (rule R16).

They are gathered while entries are applied, and written in one piece with each index flush that the
node makes of its own accord; what was applied after that flush, a replay reads again. So a retry
that meets the restarted primary is recognized.

A piece is a sequence of 32 bytes: shard u64, outcome u64 (big-endian), request id 16. The outcome
is the seq and, in its first byte, the code of a refusal; 0 where the request was executed.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable

from octad.sharding.ids import Seq, ShardId
from octad.sharding.limits import REQUEST_IDS_S
from octad.storage_node.index.index import Index
from octad.storage_node.index.index_format import (
    REQUEST_IDS,
    decode_position,
    encode_position,
    request_ids_key,
)
from octad.storage_node.index.key_ranges import past
from octad.storage_node.journal.record_format import Position, Record, RecordKind
from octad.storage_node.journal.several_records import request_ids
from octad.storage_node.operations.index_changes import (
    PutObject,
    Refused,
    decode_log_split,
    decode_operation,
)
from octad.storage_node.operations.registry import request_ids_in
from octad.storage_node.replication.request_window import Outcome, refused_at
from octad.storage_node.replication.shard_log import NO_REQUEST, Entry, outcome_of

_REQUEST = struct.Struct(">QQ16s")
_pack = _REQUEST.pack


class RequestIds:
    """See the module."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._found: dict[ShardId, list[tuple[bytes, Outcome]]] = {}
        self._reread: dict[ShardId, dict[Seq, list[tuple[bytes, Outcome]]]] = {}
        self._noted: list[bytes] = []
        self._pieces: dict[int, float] = {}  # number -> when it was written, or found.

    def load(self) -> Position | None:
        """Read what is kept; returns the position from which a replay has to read for the rest."""
        replay_from: Position | None = None
        for key, value in self._index.scan(REQUEST_IDS, past(REQUEST_IDS)):
            number = int.from_bytes(key[1:], "big")
            self._pieces[number] = time.monotonic()
            replay_from = decode_position(value[:8])
            for shard, outcome, request_id in _REQUEST.iter_unpack(value[8:]):
                self._found.setdefault(ShardId(shard), []).append((request_id, Seq(outcome)))
        return replay_from

    def replayed(self, record: Record, applied: Seq) -> None:
        """A replay has met `record`. Of those with the same seq the last one counts."""
        of_shard = self._reread.setdefault(record.shard, {})
        if record.kind is RecordKind.LOG_START:
            for seq in [seq for seq in of_shard if seq > record.commit]:
                del of_shard[seq]  # The log was cut off there: it may never have happened.
        elif record.kind is RecordKind.LOG_SPLIT:
            self._split(record, of_shard)
        elif record.seq <= applied:
            outcome = _outcome_of(record)
            ids = request_ids_in(record)
            of_shard[record.seq] = [(request_id, outcome) for request_id in ids]

    def _split(self, record: Record, of_shard: dict[Seq, list[tuple[bytes, Outcome]]]) -> None:
        """Rule R18: the new half has the ids of all that was ordered before."""
        half = ShardId(record.shard + (1 << (decode_log_split(record.metadata).depth - 1)))
        before = {seq: pairs for seq, pairs in of_shard.items() if seq <= record.seq}
        self._reread.setdefault(half, {}).update(before)
        self._found.setdefault(half, []).extend(self._found.get(record.shard, ()))

    def take_found(self) -> dict[ShardId, list[tuple[bytes, Outcome]]]:
        """What was applied before the restart, by shard."""
        for shard, of_shard in self._reread.items():
            pairs = self._found.setdefault(shard, [])
            pairs += [pair for found in of_shard.values() for pair in found]
        found, self._found, self._reread = self._found, {}, {}
        return {
            shard: [pair for pair in pairs if pair[0] != NO_REQUEST]
            for shard, pairs in found.items()
        }

    def note(self, shard: ShardId, entries: Iterable[Entry]) -> None:
        """These are being applied."""
        for entry in entries:
            operation = entry.operation
            if type(operation) is PutObject:  # By far the most, so it has a case of its own.
                self._noted.append(_pack(shard, entry.seq, entry.request_id))
                continue
            outcome = outcome_of(entry)
            for request_id in request_ids(operation, entry.request_id):
                self._noted.append(_pack(shard, outcome, request_id))

    def note_copied(self, shard: ShardId, pairs: Iterable[tuple[bytes, Outcome]]) -> None:
        """These came with the history that another member has."""
        self._noted += [_pack(shard, outcome, request_id) for request_id, outcome in pairs]

    def begin_anew(self, known: Iterable[tuple[ShardId, Iterable[tuple[bytes, Outcome]]]]) -> None:
        """The index is another one, which has none of what was saved: save all that is `known`."""
        self._pieces.clear()
        self._noted.clear()
        for shard, pairs in known:
            self.note_copied(shard, pairs)

    def save(self, replay_from: Position) -> None:
        """Before the index is flushed, which then shows everything before `replay_from`."""
        now = time.monotonic()
        old = [n for n, written in self._pieces.items() if now - written > REQUEST_IDS_S]
        for number in old:
            del self._pieces[number]
        number = max([0, *self._pieces, *old]) + 1
        self._pieces[number] = now
        noted, self._noted = self._noted, []
        piece = (request_ids_key(number), encode_position(replay_from) + b"".join(noted))
        self._index.write([piece], [request_ids_key(number) for number in old])


def _outcome_of(record: Record) -> Outcome:
    if record.kind is not RecordKind.REFUSED:
        return record.seq
    refused = decode_operation(record.kind, record.metadata)
    assert isinstance(refused, Refused)
    return refused_at(record.seq, refused.code)
