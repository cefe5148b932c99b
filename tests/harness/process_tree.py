"""A command and everything it starts, as one thing: signal it, kill it, see that nothing is left.

Every descendant is known by an environment variable with a value of this tree's own, so that
children in sessions of their own and orphans of a killed parent are found too. Needs Linux's
`/proc`. Standard library only, since the benchmark uses it as well.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

MARKER = "OCTAD_PROCESS_TREE"
POLL_S = 0.02


class ProcessTree:
    """A running command. Its stdout and stderr are appended to `log`."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.log = log
        self._marker = f"{MARKER}={uuid.uuid4().hex}".encode()
        name, _, value = self._marker.decode().partition("=")
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**(os.environ if environment is None else environment), name: value},
                cwd=directory,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def pids(self) -> list[int]:
        """Every process of this tree that still runs (zombies do not), the oldest first."""
        running = []
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                if self._marker in (directory / "environ").read_bytes().split(b"\0"):
                    running.append(int(directory.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # Gone meanwhile, or another user's: none of ours.
        return sorted(running, key=lambda pid: (pid != self.pid, pid))

    def signal_all(self, number: signal.Signals) -> None:
        """What a terminal does at Ctrl-C: the signal reaches every process of the group."""
        os.killpg(self.pid, number)

    def wait(self, timeout_s: float) -> int:
        """The command's exit code; raises subprocess.TimeoutExpired."""
        return self.process.wait(timeout_s)

    def wait_until_gone(self, timeout_s: float) -> list[int]:
        """Wait for every process of the tree to end; give those that did not."""
        deadline = time.monotonic() + timeout_s
        while (left := self.pids()) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return left

    def kill(self) -> None:
        """SIGKILL all of it, parents before children so that no one is started again."""
        while pids := self.pids():
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue  # It ended by itself.
            time.sleep(POLL_S)
        self.process.wait()

    def log_tail(self, lines: int = 60) -> str:
        """The last lines it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
