"""One process of a cluster under test: started, killed, frozen and started again as it was."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

POLL_S = 0.02


class ProcessFailed(Exception):
    """It ended, or did not do what it was started for, in time."""


class ClusterProcess:
    """`name` is for people, `command` what this Python is to run (or a program of its own, where
    `interpreter` is False). What it prints is appended to `log`.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: dict[str, str],
        *,
        interpreter: bool = True,
    ) -> None:
        self.name = name
        self._command = [sys.executable, *command] if interpreter else list(command)
        self._log = log
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        """0 while it does not run."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        assert self._process is None, f"{self.name} runs already"
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for this program alone.
            )

    def kill(self) -> None:
        """SIGKILL, also when it is frozen; nothing when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    async def wait_until_it_says(self, text: str, timeout_s: float) -> None:
        """It has printed `text` since it was started last; raises ProcessFailed."""
        deadline = time.monotonic() + timeout_s
        while not self._has_said(text):
            if self._process is not None and self._process.poll() is not None:
                code = self._process.returncode
                raise ProcessFailed(f"{self.name} ended with {code}: {self._last_line()}")
            if time.monotonic() > deadline:
                raise ProcessFailed(
                    f"{self.name} did not say {text!r} within {timeout_s:.0f} s: "
                    f"{self._last_line()}"
                )
            await asyncio.sleep(POLL_S)

    def _has_said(self, text: str) -> bool:
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            return text.encode() in log.read()

    def _last_line(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it printed nothing"

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
