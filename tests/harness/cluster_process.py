"""A real cluster, started with `octad dev`: wait until it serves, kill it, start it again, stop it.

Standard library only: the tests and the benchmark share it.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.harness.process_tree import POLL_S, ProcessTree

OCTAD = Path(sys.executable).with_name("octad")
READY = "is ready"  # On the line that tells people which nodes serve.
START_S_MAX = 30.0
STOP_S_MAX = 20.0
EPHEMERAL_PORTS = 32_768  # From here on any connection of this machine may have taken one.


class ClusterFailed(AssertionError):
    """It did not start or stop as it should; the message ends with what it printed."""


@dataclass(frozen=True, slots=True)
class RunningNode:
    """One node's process and its addresses, each host:port."""

    id: int
    pid: int
    s3: str
    rpc: str


class DevCluster:
    """`octad dev` on free ports with its data in `directory`/data."""

    def __init__(
        self, directory: Path, *, nodes: int = 3, options: Sequence[str] = (), s3_port: int = 0
    ) -> None:
        self.data = directory / "data"
        self.log = directory / "octad-dev.log"
        self.access_key = "octad-test"
        self.secret_key = "octad-test-secret"
        self.nodes_wanted = nodes
        self.s3_port = s3_port or free_port_block(nodes)
        self.options = list(options)
        self.tree: ProcessTree | None = None
        self._log_start = 0
        self.coordinator = ""
        self.authority = ""  # The file that clients trust, with TLS.
        self.nodes: list[RunningNode] = []

    def command(self) -> list[str | Path]:
        """The command line that starts it."""
        return [
            *(OCTAD, "dev", "--data", self.data, "--nodes", str(self.nodes_wanted)),
            *("--s3-port", str(self.s3_port)),
            *("--access-key", self.access_key, "--secret-key", self.secret_key),
            *self.options,
        ]

    def start(self) -> float:
        """Start it and wait until every node serves; gives the seconds that this took."""
        assert self.tree is None, "it runs already"
        started = time.monotonic()
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self.tree = ProcessTree(self.command(), self.log)
        try:
            while not self._serves():
                if self.tree.process.poll() is not None:
                    self._fail(f"ended with {self.tree.process.returncode} while starting")
                if time.monotonic() - started > START_S_MAX:
                    self._fail(f"not ready within {START_S_MAX:.0f} s")
                time.sleep(POLL_S)
        except BaseException:
            self.kill()
            raise
        return time.monotonic() - started

    def said(self) -> str:
        """What it has printed since it was started last."""
        return self.log.read_bytes()[self._log_start :].decode()

    def kill(self) -> None:
        """SIGKILL every process at once: what a power cut leaves of the processes."""
        if self.tree is not None:
            self.tree.kill()
            self.tree = None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask the supervisor to stop; it must exit with 0 and leave no process behind."""
        assert self.tree is not None, "it does not run"
        tree = self.tree
        tree.process.send_signal(number)
        self.expect_clean_end(tree)

    def expect_clean_end(self, tree: ProcessTree) -> None:
        """It ends by itself, with 0, and all of its processes with it."""
        try:
            code = tree.wait(STOP_S_MAX)
            left = tree.wait_until_gone(timeout_s=1.0)
            if code or left:
                self._fail(f"exit code {code}, processes left: {left}")
        finally:
            self.kill()

    def endpoint(self, node: int = 0) -> str:
        """Where clients reach a node: http://host:port, or https where it has TLS."""
        return f"{'https' if self.authority else 'http'}://{self.nodes[node].s3}"

    def pids(self) -> list[int]:
        """All of its processes, the supervisor first."""
        assert self.tree is not None, "it does not run"
        return self.tree.pids()

    def _serves(self) -> bool:
        """Whether this start (not an earlier one on the same data) said that it is ready."""
        assert self.tree is not None
        try:
            state = json.loads((self.data / "dev.json").read_bytes())
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        if state["supervisor_pid"] != self.tree.pid:
            return False
        self.coordinator = state["coordinator"]
        self.authority = state["authority"]
        self.nodes = [
            RunningNode(node["id"], node["pid"], node["s3"], node["rpc"]) for node in state["nodes"]
        ]
        return READY in self.said()

    def _fail(self, what: str) -> None:
        assert self.tree is not None
        raise ClusterFailed(f"octad dev: {what}\n{self.tree.log_tail()}")


class StartCluster(Protocol):
    """What the fixture `start_cluster` gives: starts one that the test may do anything to."""

    def __call__(
        self, *, nodes: int = 3, options: tuple[str, ...] = (), s3_port: int = 0
    ) -> DevCluster: ...


class Refused(Protocol):
    """What the fixture `refused` gives: runs octad with what it cannot do; gives the one line."""

    def __call__(self, *arguments: str | Path) -> str: ...


def free_ports(offsets: Iterable[int]) -> int:
    """A port of 127.0.0.1 such that it plus each offset is free, below the ephemeral ones."""
    wanted = list(offsets)
    for _ in range(200):
        first = random.randrange(20_000, EPHEMERAL_PORTS - max(wanted) - 1)
        if all(_is_free(first + offset) for offset in wanted):
            return first
    raise ClusterFailed(f"no free ports at {wanted} from one another")


def free_port_block(count: int) -> int:
    """The first of `count` free ports in a row."""
    return free_ports(range(count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
