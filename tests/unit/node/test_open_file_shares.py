"""Whatever the limit, what a node may have open at a time stays below it."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from octad.client.runtime.open_files import OPEN_FILES_MIN
from octad.sharding.limits import (
    ADMIN_CONNECTIONS_MAX,
    CLIENT_CONNECTIONS_MAX,
    RPC_HANDSHAKES_MAX,
    TURNED_AWAY_MAX,
)
from octad.storage_node.node.open_file_shares import open_file_shares

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "reference" / "limits.md"
_OTHER_NODES = 64
_BESIDE = 40  # What a node has open that no one asks anything of, counted at one.


@given(st.integers(OPEN_FILES_MIN, sys.maxsize))
def test_clients_get_what_nobody_else_needs(limit: int) -> None:
    shares = open_file_shares(limit)
    strangers = RPC_HANDSHAKES_MAX + ADMIN_CONNECTIONS_MAX + 3 * TURNED_AWAY_MAX
    of_the_node = shares.index + shares.journal + _OTHER_NODES + _BESIDE
    assert shares.clients + shares.log + strangers + of_the_node <= limit
    assert shares.clients >= min(limit // 4, CLIENT_CONNECTIONS_MAX)
    assert min(shares.index, shares.journal) >= 128


def test_the_document_tells_what_a_node_does_with_its_limit() -> None:
    rows = {
        cells[0]: [int(cell.replace(",", "")) for cell in cells[1:]]
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("| ") and (cells := [cell.strip() for cell in line.split("|")[1:-1]])
        if all(cell.replace(",", "").isdecimal() for cell in cells[1:])
    }
    shares = [open_file_shares(limit) for limit in rows["of a limit of"]]
    assert rows["clients of S3"] == [each.clients for each in shares]
    assert rows["files of the index"] == [each.index for each in shares]
    assert rows["files of the journal, for reading"] == [each.journal for each in shares]
