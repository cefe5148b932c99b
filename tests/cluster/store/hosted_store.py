"""The embedded store in a process of its own, to be killed, frozen and restarted.

As a script, `hosted_store.py FILE PORT`, it is that process.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.http_server import HttpFace

KEY = b"k" * 32
READY_S_MAX = 30.0


class HostedStore:
    """The process."""

    def __init__(self, directory: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        self._log = directory / "hosted_store.log"
        self._command = [sys.executable, __file__, str(directory / "store.db"), str(port)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_S_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                if time.monotonic() > deadline:
                    pytest.fail(f"the store did not start:\n{self._log.read_text()}")
                time.sleep(0.05)
            else:
                return

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


async def serve(path: Path, port: int) -> None:
    """Until the process is killed."""
    face = HttpFace(await EmbeddedStore.open(path), KEY)
    await face.start("127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
