"""What a copy of a shard's history leaves in the node's journal (`index/history_format.py`)."""

from __future__ import annotations

from octad.storage_node.index.history_format import HistoryCopied, HistoryDeleted
from octad.storage_node.journal.record_format import RecordKind
from octad.storage_node.operations.kind import Kind, Scope

KINDS = (
    Kind(record=RecordKind.HISTORY_DELETED, struct=HistoryDeleted, scope=Scope.COPY, kept=True),
    Kind(record=RecordKind.HISTORY_COPIED, struct=HistoryCopied, scope=Scope.COPY, kept=True),
)
