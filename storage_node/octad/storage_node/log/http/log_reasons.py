"""What keeps the first records of a partition's log: values in, values out."""

from __future__ import annotations

from collections.abc import Iterator

from octad.client.log.log_documents import HoldDocument
from octad.storage_node.log.log_messages import HeldRead, PartitionRead
from octad.storage_node.log.topic_settings import (
    FOR_EVER,
    RETENTION_BYTES,
    RETENTION_MS,
    TopicSettings,
)


def holds_of(
    read: PartitionRead, held: HeldRead, settings: TopicSettings, now_ms: int
) -> Iterator[HoldDocument]:
    """All that keeps the first records that there are, pins first."""
    if read.start == read.next:
        yield HoldDocument("nothing", "there are no records")
        return
    for pin in sorted(held.pins, key=lambda each: each.offset)[:1]:
        more = f", the lowest of {len(held.pins)} pins," if len(held.pins) > 1 else ""
        yield HoldDocument(
            "pin", f"the pin {pin.id} of {pin.owner}{more} keeps {pin.offset} and on"
        )
    kept_ms, kept_bytes = settings.retention_ms, settings.retention_bytes
    if kept_ms == kept_bytes == FOR_EVER:
        yield HoldDocument("for-ever", "records are kept until they are trimmed")
        return
    is_over = kept_bytes != FOR_EVER and read.bytes > kept_bytes
    left_ms = read.oldest_ms + kept_ms - now_ms
    if kept_ms != FOR_EVER and left_ms < 0:
        is_over = True
    if is_over:
        yield HoldDocument("upkeep", "it is more than is to be kept, and goes at the next look")
        return
    if kept_ms != FOR_EVER:
        said = f"the first batch has a record of {read.oldest_ms}, and is kept for {kept_ms} ms"
        yield HoldDocument(RETENTION_MS, f"{said}: {left_ms} more")
    if kept_bytes != FOR_EVER:
        said = f"there are {read.bytes} bytes, and {kept_bytes} are kept"
        yield HoldDocument(RETENTION_BYTES, said)
