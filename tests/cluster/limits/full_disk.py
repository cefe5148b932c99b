"""A small disk under one node of a cluster, and how it is filled. Needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.harness.cluster_process import DevCluster
from tests.harness.s3_clients import put_status

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1024 * 1024
DISK_BYTES = 768 * MIB  # Two segments of it are the journal's from the start, 432 MiB the reserve.
BUCKET = "bucket"
BODY = os.urandom(MIB) * 8
BACK_S_MAX = 20.0  # A tenth of that on a machine that does nothing else.
# More than the reserve shrinks by when the index has merged what was deleted, less than that was.
MARGIN = 64 * MIB


@contextmanager
def small_disk(cluster: DevCluster, place: str) -> Iterator[None]:
    """The data of a cluster that is stopped lies on a small disk of its own."""
    path, kept = cluster.data / place, cluster.data.parent / place
    path.rename(kept)
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", path], check=True)
    try:
        shutil.copytree(kept, path, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def fill(clients: list[S3Client], disk_bytes: int = DISK_BYTES) -> list[str]:
    """Objects of 8 MiB until none is taken; the keys of those that are there."""
    keys: list[str] = []
    for number in range(disk_bytes // len(BODY)):
        key = f"large-{number}"
        if put_status(clients[number % len(clients)], BUCKET, key, BODY) != 200:
            break
        keys.append(key)
    return keys


def take(path: Path, size: int) -> None:
    """So many bytes of the disk, by what is not octad's."""
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + BACK_S_MAX
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)
    return False
