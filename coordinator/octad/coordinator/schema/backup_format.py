"""A backup of the configuration store: text, one key a line, with a checksum over all of it.

    octad-backup 1
    {"cluster":"1a2b3c4d","generation":0,"revision":812,"keys":341,"version":"0.1.0"}
    {"key":"pools/0","value":"<base64>"}
    …
    sha256 <64 hex digits of everything above, line ends included>

Keys are without the cluster's prefix, in order. Secrets in it are sealed with the cluster secret,
which is not in it; treat it as a secret all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

FORMAT_VERSION = 1
_MAGIC = b"octad-backup "


class BadBackup(ValueError):
    """Not a backup, a newer one, cut off, or changed since."""


class BackupHeader(msgspec.Struct, frozen=True):
    """The second line."""

    cluster: str
    generation: int
    revision: int
    keys: int
    version: str  # Version of the octad that wrote it.


class BackupLine(msgspec.Struct, frozen=True):
    """One key."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class StoreBackup:
    """A backup in memory."""

    header: BackupHeader
    entries: Mapping[str, bytes]


def encode_backup(backup: StoreBackup) -> bytes:
    assert backup.header.keys == len(backup.entries)
    lines = [_MAGIC + str(FORMAT_VERSION).encode(), msgspec.json.encode(backup.header)]
    lines += [
        msgspec.json.encode(BackupLine(key, value)) for key, value in sorted(backup.entries.items())
    ]
    body = b"".join(line + b"\n" for line in lines)
    return body + b"sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n"


def decode_backup(data: bytes) -> StoreBackup:
    """The inverse; raises BadBackup."""
    first, _, _ = data.partition(b"\n")
    if not first.startswith(_MAGIC):
        raise BadBackup("it is not a backup of octad's")
    version = first.removeprefix(_MAGIC)
    if version != str(FORMAT_VERSION).encode():
        raise BadBackup(
            f"it has format {version.decode(errors='replace')}, this octad knows {FORMAT_VERSION}"
        )
    body, separator, checksum = data.rpartition(b"sha256 ")
    if not separator or checksum != hashlib.sha256(body).hexdigest().encode() + b"\n":
        raise BadBackup("it was cut off or changed: its checksum does not fit")
    try:
        _, header_line, *lines = body.splitlines()
        header = msgspec.json.decode(header_line, type=BackupHeader)
        entries = [msgspec.json.decode(line, type=BackupLine) for line in lines]
    except (msgspec.DecodeError, ValueError) as error:
        raise BadBackup(f"it makes no sense: {error}") from error
    return StoreBackup(header, {entry.key: entry.value for entry in entries})
