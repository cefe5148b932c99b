"""Divides the files and connections that a node may have open.

    limit = index + journal + strangers at RPC + admin + turned away + other nodes + the rest
            + clients of the log + clients

Clients get the rest, so that however many connect, no other part of the node ever lacks one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from octad.sharding.limits import (
    ADMIN_CONNECTIONS_MAX,
    CLIENT_CONNECTIONS_MAX,
    JOURNAL_OPEN_FILES_MAX,
    LOG_CONNECTIONS_MAX,
    RPC_HANDSHAKES_MAX,
    TURNED_AWAY_MAX,
)

_INDEX_SHARE: Final = 8  # An eighth: a file holds 128 MiB of rows, read more slowly beyond.
_INDEX_MAX: Final = 65_536  # 8 TiB of rows.
_JOURNAL_SHARE: Final = 8
_LOG_SHARE: Final = 16
_NODES_SHARE: Final = 32
_NODES_MIN: Final = 64
# Logs, locks, listeners and timers, the configuration store, coordinators; of journal and index
# what is being written, merged, copied and scrubbed.
_REST: Final = 64


@dataclass(frozen=True, slots=True)
class OpenFileShares:
    """The maximum of each part."""

    clients: int
    log: int
    index: int
    journal: int


def open_file_shares(limit: int) -> OpenFileShares:
    """The shares of `limit`, which is 1,024 or more."""
    index = min(limit // _INDEX_SHARE, _INDEX_MAX)
    journal = min(limit // _JOURNAL_SHARE, JOURNAL_OPEN_FILES_MAX)
    log = min(limit // _LOG_SHARE, LOG_CONNECTIONS_MAX)
    nodes = _NODES_MIN + limit // _NODES_SHARE
    others = RPC_HANDSHAKES_MAX + ADMIN_CONNECTIONS_MAX + 3 * TURNED_AWAY_MAX + nodes + _REST
    clients = limit - index - journal - log - others
    assert clients > 0, "the least limit leaves some to clients"
    return OpenFileShares(min(clients, CLIENT_CONNECTIONS_MAX), log, index, journal)
