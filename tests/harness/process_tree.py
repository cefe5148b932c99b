"""A process of a cluster, with what only tests ask: that it stops, and leaves nothing behind.

Every process that it starts is known by an environment variable with a value of its own, so that
children in sessions of their own and orphans of a killed parent are found too. Needs Linux's
`/proc`.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from octad.chaos.cluster.process import POLL_S, ClusterProcess

MARKER = "OCTAD_PROCESS_TREE"


class ProcessTree(ClusterProcess):
    """A command and everything it starts, as one thing."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        super().__init__(command, log, environment=environment, directory=directory)
        self._mark = self._environment[MARKER] = uuid.uuid4().hex

    def pids(self) -> list[int]:
        """All of its processes that run (zombies do not), itself first, then the oldest."""
        mark, running = f"{MARKER}={self._mark}".encode(), []
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (directory / "environ").read_bytes().split(b"\0"):
                    running.append(int(directory.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # Gone meanwhile, or another user's: none of ours.
        return sorted(running, key=lambda pid: (pid != self.pid, pid))

    def kill(self) -> None:
        """SIGKILL for all of it, frozen or not, parents first so that no one is started again."""
        if not self.pid:
            return
        self.signal(signal.SIGKILL)
        while pids := self.pids():
            for pid in pids:
                with suppress(ProcessLookupError):  # It ended by itself.
                    os.kill(pid, signal.SIGKILL)
            time.sleep(POLL_S)
        super().kill()

    def signal_all(self, number: signal.Signals) -> None:
        """What a terminal does at Ctrl-C: the signal reaches every process of the group."""
        os.killpg(self.pid, number)

    def wait(self, timeout_s: float) -> int:
        """The command's exit code; raises ProcessFailed."""
        self.wait_until(lambda: self.ended is not None, "ended", timeout_s)
        assert self.ended is not None
        return self.ended

    def stop(self, timeout_s: float) -> int:
        """Ask the command to stop; gives its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def wait_until_gone(self, timeout_s: float) -> list[int]:
        """Wait for every process of the tree to end; give those that did not."""
        deadline = time.monotonic() + timeout_s
        while (left := self.pids()) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return left
