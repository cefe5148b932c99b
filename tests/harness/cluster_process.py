"""A real cluster, started with `octad dev`: it serves, and is killed, started again, stopped."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.harness.process_tree import ProcessTree

from octad.chaos.cluster.free_ports import free_port

OCTAD = Path(sys.executable).with_name("octad")
READY = "is ready"  # On the line that tells people which nodes serve.
START_S_MAX = 30.0
STOP_S_MAX = 20.0


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
        self.s3_port = s3_port or free_port(range(nodes))
        self.options = list(options)
        self.tree = ProcessTree((), self.log)
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
        started = time.monotonic()
        self.tree.command = self.command()
        self.tree.start()
        try:
            self.tree.wait_until(self._serves, "said that it serves", START_S_MAX)
        except BaseException:
            self.kill()
            raise
        return time.monotonic() - started

    def said(self) -> str:
        """What it has printed since it was started last."""
        return self.tree.said()

    def kill(self) -> None:
        """SIGKILL every process at once: what a power cut leaves of the processes."""
        self.tree.kill()

    def stop(self) -> None:
        """Ask the supervisor to stop; it must exit with 0 and leave no process behind."""
        self.tree.signal(signal.SIGTERM)
        self.expect_clean_end()

    def expect_clean_end(self) -> None:
        """It ends by itself, with 0, and all of its processes with it."""
        try:
            code = self.tree.wait(STOP_S_MAX)
            left = self.tree.wait_until_gone(timeout_s=1.0)
            if code or left:
                raise self.tree.failed(f"ended with {code}, processes left: {left}")
        finally:
            self.kill()

    def endpoint(self, node: int = 0) -> str:
        """Where clients reach a node: http://host:port, or https where it has TLS."""
        return f"{'https' if self.authority else 'http'}://{self.nodes[node].s3}"

    def pids(self) -> list[int]:
        """All of its processes, the supervisor first."""
        return self.tree.pids()

    def _serves(self) -> bool:
        """Whether this start (not an earlier one on the same data) said that it is ready."""
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


class StartCluster(Protocol):
    """What the fixture `start_cluster` gives: starts one that the test may do anything to."""

    def __call__(
        self, *, nodes: int = 3, options: tuple[str, ...] = (), s3_port: int = 0
    ) -> DevCluster: ...


class Refused(Protocol):
    """What the fixture `refused` gives: runs octad with what it cannot do; gives the one line."""

    def __call__(self, *arguments: str | Path) -> str: ...
