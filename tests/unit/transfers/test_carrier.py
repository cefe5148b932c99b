"""What a move removes: a source whose copy is there, as it was copied, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from octad.client.cli.access.places import S3Place
from octad.client.cli.transfers.carrier import Carrier
from octad.client.cli.transfers.plan import Transfer
from octad.client.cli.transfers.progress import Progress
from octad.client.objects.async_client import AsyncClient


class Bucket:
    """Takes what is put; `written` is what someone writes to the file meanwhile."""

    def __init__(self, file: Path, written: bytes | None) -> None:
        self.put_there: bytes | None = None
        self._file, self._written = file, written

    def bucket(self, name: str) -> Bucket:
        return self

    async def put(self, key: str, data: bytes, *, content_type: str) -> None:
        self.put_there = data
        if self._written is not None:
            self._file.write_bytes(self._written)


async def moved(file: Path, written: bytes | None) -> Carrier:
    progress = Progress("move", 1, 6)
    carrier = Carrier(cast(AsyncClient, Bucket(file, written)), progress, moves=True)
    found = file.stat()  # noqa: ASYNC240 (it is there at once)
    transfer = Transfer(file, S3Place("b", "k"), found.st_size, found.st_mtime)
    await carrier.carry([transfer])
    return carrier


async def test_a_moved_file_is_removed_once_it_is_there(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"before")
    carrier = await moved(file, None)
    assert (carrier.failures, carrier.progress.done, file.exists()) == ([], 1, False)


async def test_a_file_that_was_written_while_it_was_moved_stays(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"before")
    carrier = await moved(file, b"what was written after")
    assert file.read_bytes() == b"what was written after"
    assert [failure.reason for failure in carrier.failures] == [
        "it was written meanwhile, so it stays"
    ]
