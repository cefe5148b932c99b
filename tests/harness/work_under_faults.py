"""Clients that work in threads while something happens to their cluster."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.harness.cluster_process import OCTAD, DevCluster

A_WHILE_S = 2.5
STEPS = 7
PATIENCE_S = 120.0


Happening = Callable[[DevCluster, Callable[[], int]], None]
"""What happens to a cluster while clients work, who tell how much they have done."""


def work_while(
    happening: Callable[[], None], work: Callable[[int], None], clients: int, stop: threading.Event
) -> None:
    """Run `work(number)` for so many clients, until `stop` is set; raises what they raise."""
    with ThreadPoolExecutor(clients) as pool:
        working = [pool.submit(work, number) for number in range(clients)]
        try:
            happening()
        finally:
            stop.set()
        for each in working:
            each.result()


def kill_each_node(cluster: DevCluster, progress: Callable[[], int]) -> None:
    """One after the other; clients get on before each, and when all are back."""
    for node in cluster.nodes:
        let_work(progress)
        os.kill(node.pid, signal.SIGKILL)
    for node in cluster.nodes:
        wait_until_it_listens(node.s3)
    let_work(progress)


def split_shards(cluster: DevCluster, progress: Callable[[], int]) -> None:
    """Each in two; clients get on before that, and when all of it is done."""
    let_work(progress)
    command: list[str | Path] = [OCTAD, "shards", "split", "--data", cluster.data]
    subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=True)
    let_work(progress)


def let_work(progress: Callable[[], int]) -> None:
    """For a while, and until `progress`, a count of what is done, has grown."""
    deadline, enough = time.monotonic() + PATIENCE_S, progress() + STEPS
    time.sleep(A_WHILE_S)
    while progress() < enough:
        assert time.monotonic() < deadline, f"clients are at {progress()}, not at {enough}"
        time.sleep(0.1)


def wait_until_it_listens(address: str) -> None:
    """Its supervisor has started it again."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens at {address}"
            time.sleep(0.1)
        else:
            return
