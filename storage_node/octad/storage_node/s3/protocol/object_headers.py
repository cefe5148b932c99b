"""The headers of an answer, from an object's row."""

from __future__ import annotations

from collections.abc import Mapping

from octad.client.s3.http_dates import http_date
from octad.sharding.ids import BucketId
from octad.storage_node.index.rows import ObjectRow
from octad.storage_node.s3.protocol.answers import header_lines
from octad.storage_node.s3.protocol.requests.header_text import ascii_value
from octad.storage_node.s3.protocol.requests.request_headers import DEFAULT_CONTENT_TYPE
from octad.storage_node.shards.object_store import Degraded, StoredObject, Written

VERSION = "x-octad-version"
_CHECKSUM_WANTED = "enabled"
_FRESHNESS = ("cache-control", "expires")


def object_lines(row: ObjectRow, overrides: Mapping[str, str]) -> str:
    """Header lines of a GET or HEAD of the object, without its validators, length or range."""
    headers = {**row.headers, **overrides} if overrides else row.headers
    content_type = "" if "content-type" in headers else f"Content-Type: {DEFAULT_CONTENT_TYPE}\r\n"
    kept = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if not kept.isascii():
        kept = header_lines({name: ascii_value(value) for name, value in headers.items()})
    if row.extras is not None and row.extras.tags:
        kept += f"x-amz-tagging-count: {len(row.extras.tags)}\r\n"
    return f"Accept-Ranges: bytes\r\n{content_type}{kept}"


def unmodified_lines(row: ObjectRow, overrides: Mapping[str, str]) -> str:
    """A 304's headers beside the validators (RFC 9110 §15.4.5): how long a copy is fresh."""
    headers = {**row.headers, **overrides}
    kept = {name: ascii_value(headers[name]) for name in _FRESHNESS if name in headers}
    return header_lines(kept)


def validator_lines(bucket: BucketId, stored: StoredObject) -> str:
    """Identifies the object that was read, against another one at its key."""
    row, (epoch, seq) = stored.row, stored.version
    version = f"{VERSION}: {bucket:x}-{epoch:x}-{seq:x}\r\n" if epoch else ""
    return f'{version}ETag: "{row.etag}"\r\nLast-Modified: {http_date(row.modified_ms)}\r\n'


def degraded_line(*writes: Degraded | None) -> str:
    """The header line that says that of `writes` the weakest has fewer copies than its pool keeps.

    "" where none has.
    """
    degraded = [write for write in writes if write is not None]
    if not degraded:
        return ""
    weakest = min(degraded, key=lambda write: write.copies)
    return f"x-octad-degraded: copies={weakest.copies}/{weakest.replicas}\r\n"


def written_lines(bucket: BucketId, written: Written, *stored: Degraded | None) -> str:
    """The headers for an object that was put; `stored`: of its bytes, where these are extents.

    No version is named where its epoch is not known.
    """
    epoch, seq = written.version
    line = f"{VERSION}: {bucket:x}-{epoch:x}-{seq:x}\r\n" if epoch else ""
    if written.degraded is None and not any(stored):
        return line
    return line + degraded_line(*stored, written.degraded)


def checksum_lines(checksums: Mapping[str, str]) -> str:
    """The stored checksums as header lines, with their type."""
    return _checksum_lines(checksums, checksum_type(checksums))


def part_checksum_lines(row: ObjectRow, number: int) -> str:
    """The checksums of part `number`, with the type of the object's own."""
    if not row.part_sizes:
        return checksum_lines(row.checksums)  # Put whole: it is its own only part.
    of_parts = () if row.extras is None else row.extras.part_checksums
    if not of_parts:
        return ""  # Completed by an octad that did not keep them.
    checksums = dict.fromkeys(row.checksums, of_parts[number - 1])
    return _checksum_lines(checksums, checksum_type(row.checksums))


def _checksum_lines(checksums: Mapping[str, str], kind: str) -> str:
    if not checksums:
        return ""
    lines = "".join(
        [f"x-amz-checksum-{name.lower()}: {value}\r\n" for name, value in checksums.items()]
    )
    return f"{lines}x-amz-checksum-type: {kind}\r\n"


def checksum_type(checksums: Mapping[str, str]) -> str:
    """COMPOSITE where a value is one over the parts' checksums, "" where there is none."""
    for value in checksums.values():  # A loop, because a page of a listing asks a thousand times.
        if "-" in value:  # No base64 digit is a hyphen.
            return "COMPOSITE"
    return "FULL_OBJECT" if checksums else ""


def wants_checksums(headers: Mapping[str, str]) -> bool:
    """Whether the client asked for the checksums."""
    return headers.get("x-amz-checksum-mode", "").lower() == _CHECKSUM_WANTED
