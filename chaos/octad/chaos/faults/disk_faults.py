"""A node's disk is full, or slow. Both need root, and Linux.

*Full*: the node's directory is a small file system in memory, which a file fills up. *Slow*: the
node's process is in a control group that may write only so often a second.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SMALL_DISK = "900m"  # Room for a node's reserve, and for the writes of a run.
LEFT_BYTES = 1024 * 1024
FILLER = "filler"
BLKIO = Path("/sys/fs/cgroup/blkio")
SLOW_WRITES_PER_S = 20


class NotPossibleHere(Exception):
    """This machine does not allow it; the message says why."""


def mount_small_disk(directory: Path) -> None:
    """`directory`, made when absent, becomes a small disk of its own."""
    _check_root()
    directory.mkdir(exist_ok=True)
    options = f"size={SMALL_DISK}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=True)


def unmount(directory: Path) -> None:
    subprocess.run(["umount", "--lazy", directory], check=True)


def fill(directory: Path) -> None:
    """Leave hardly any room on the small disk at `directory`."""
    state = os.statvfs(directory)
    room = state.f_bavail * state.f_frsize - LEFT_BYTES
    with (directory / FILLER).open("wb") as file:
        if room > 0:
            os.posix_fallocate(file.fileno(), 0, room)


def empty(directory: Path) -> None:
    """Take the filler away."""
    (directory / FILLER).unlink(missing_ok=True)


def slow_down(pid: int, directory: Path) -> None:
    """The process `pid` writes seldom to the disk of `directory`."""
    _check_root()
    device = directory.stat().st_dev
    group = BLKIO / f"octad-chaos-{pid}"
    try:
        group.mkdir()
        limit = f"{os.major(device)}:{os.minor(device)} {SLOW_WRITES_PER_S}"
        (group / "blkio.throttle.write_iops_device").write_text(limit)
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        raise NotPossibleHere(f"no blkio control group for {directory}: {error}") from error


def speed_up(pid: int) -> None:
    """The inverse; the process may have ended meanwhile."""
    group = BLKIO / f"octad-chaos-{pid}"
    if not group.exists():
        return
    for each in (group / "cgroup.procs").read_text().split():
        (BLKIO / "cgroup.procs").write_text(each)
    group.rmdir()


def _check_root() -> None:
    if os.geteuid() != 0:
        raise NotPossibleHere("only root may limit a disk")
