"""A process of a cluster, with what only tests ask: that it stops, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import time

from octad.chaos.cluster.process import POLL_S, ClusterProcess


class ProcessTree(ClusterProcess):
    """A command and everything it starts, as one thing."""

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
