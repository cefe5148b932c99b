"""Nodes that an earlier `octad dev` left behind: gone before another one touches their data.

They end with their supervisor: at once where the kernel sees to it, else soon. Who still has a
node's directory is shown by its lock, which ends with the process.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from octad.client.runtime.command import CommandError
from octad.storage_node.journal.data_directory import LOCK_NAME

END_S_MAX = 20.0  # As long as a node may take to finish its clients' requests.
POLL_S = 0.02
_PLACE = re.compile(r"n[0-9]+")
_LOCK_BYTES_MAX = 64


def wait_for_former_nodes(data: Path) -> bool:
    """Waits until no process has a node's directory; returns whether a killed one left any.

    Raises CommandError naming a process that has one and does not end.
    """
    was_killed = False
    deadline = time.monotonic() + END_S_MAX
    for place in sorted(data.iterdir()):
        if _PLACE.fullmatch(place.name):
            with suppress(OSError):  # A node that cannot use its directory says so itself.
                was_killed |= _wait_for(place, deadline)
    return was_killed


def _wait_for(place: Path, deadline: float) -> bool:
    """Whether the last process that had `place` was killed: a clean stop empties its lock file."""
    lock = os.open(place / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    try:
        while not _is_free(lock):
            if time.monotonic() > deadline:
                process = (os.pread(lock, _LOCK_BYTES_MAX, 0).decode("ascii").split() or ["?"])[0]
                raise CommandError(
                    f"{place} is in use by process {process}, which an earlier octad dev or an"
                    " octad node has left; no data is concerned",
                    f"kill {process}",
                )
            time.sleep(POLL_S)
        return bool(os.pread(lock, _LOCK_BYTES_MAX, 0))
    finally:
        os.close(lock)


def _is_free(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
