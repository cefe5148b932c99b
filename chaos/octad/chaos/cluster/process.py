"""A command that is started, waited for, frozen, killed, and started again as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

POLL_S = 0.02
TAIL_LINES = 60


class ProcessFailed(Exception):
    """The process ended or did not become ready in time; a note has its output."""


class ClusterProcess:
    """Its output is appended to `log`; `environment` is its whole environment, None: ours."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.command = command
        self.log = log
        self._environment = {**(os.environ if environment is None else environment)}
        self._directory = directory
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """0 before it is started and after it is killed."""
        return self._process.pid if self._process is not None else 0

    @property
    def ended(self) -> int | None:
        """The exit code of a command that has ended by itself."""
        return self._process.poll() if self._process is not None else None

    @property
    def runs(self) -> bool:
        return self._process is not None and self.ended is None

    def start(self) -> Self:
        """Start it; it must not be running. Returns itself."""
        assert not self.runs, f"{self.log.stem} runs already"
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(word) for word in self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._directory,
                start_new_session=True,  # Ctrl-C is for this program alone.
            )
        return self

    def signal(self, number: signal.Signals) -> None:
        """To the command alone; nothing when it does not run."""
        if self._process is not None:
            self._process.send_signal(number)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL for the command, frozen or not; nothing when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def said(self) -> str:
        """Its output since the last start."""
        return self.log.read_bytes()[self._log_start :].decode(errors="replace")

    def wait_until_it_says(self, text: str, timeout_s: float) -> None:
        """Wait until its output since the last start has `text`; raises ProcessFailed."""
        self.wait_until(lambda: text in self.said(), f"said {text!r}", timeout_s)

    def wait_until(self, holds: Callable[[], bool], what: str, timeout_s: float) -> None:
        """While it runs; raises ProcessFailed, which names it and `what` it has not done."""
        deadline = time.monotonic() + timeout_s
        while True:
            ended, late = not self.runs, time.monotonic() > deadline  # Before the last look.
            if holds():
                return
            if ended:
                raise self.failed(f"ended with {self.ended} and has not {what}")
            if late:
                raise self.failed(f"has not {what} within {timeout_s:.0f} s")
            time.sleep(POLL_S)

    def failed(self, what: str) -> ProcessFailed:
        """The error: one line, with the process's output as a note for the traceback."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        error = ProcessFailed(
            f"{self.log.stem} {what}: {lines[-1] if lines else 'it said nothing'}"
        )
        error.add_note("\n".join(lines))
        return error
