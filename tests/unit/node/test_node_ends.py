"""What a node that cannot go on tells its operator to do."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from octad.client.runtime.open_files import open_files_limit
from octad.sharding.ids import NodeId
from octad.storage_node.index.index import IndexFailed
from octad.storage_node.journal.journal_errors import JournalFull
from octad.storage_node.node.node import Node
from octad.storage_node.node.node_failures import cannot_go_on, cannot_start

DATA = Path("/srv/octad")


def caused_by(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files", "/srv/octad/journal/0000000007.segment"),
        IndexFailed("the index cannot be written: IO error: …/000012.sst: Too many open files"),
        caused_by(JournalFull("no further segment could be made"), OSError(errno.ENFILE, "…")),
    ],
    ids=["journal", "index", "what caused it"],
)
def test_who_lacks_descriptors_is_not_sent_to_the_disk(error: Exception) -> None:
    for said in (cannot_go_on(NodeId(1), DATA, error), cannot_start(NodeId(1), DATA, error)):
        assert f"the limit of open files is {open_files_limit()}" in said.fix
        assert "look at the disk" not in said.fix


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EPERM, "Operation not permitted"),
        IndexFailed("the index cannot be written: IO error: No space left on device"),
    ],
)
def test_whose_disk_is_bad_is_sent_there(error: Exception) -> None:
    for said in (cannot_go_on(NodeId(1), DATA, error), cannot_start(NodeId(1), DATA, error)):
        assert "look at the disk under /srv/octad" in said.fix


async def test_who_waits_for_a_node_that_fails_first_waits_no_longer() -> None:
    failure = asyncio.get_running_loop().create_future()
    node = cast("Node", SimpleNamespace(failure=failure, _replication=NeverReady()))
    waiting = asyncio.create_task(Node.ready(node))
    failure.set_result(OSError(errno.EIO, "Input/output error"))
    await waiting


class NeverReady:
    """Replication whose shards are not all configured."""

    def is_ready(self) -> bool:
        return False
