"""Real etcd servers on free loopback ports, one or a cluster, to kill, freeze and restart."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

READY_S_MAX = 30.0
REPOSITORY = Path(__file__).resolve().parents[3]


def etcd_binary() -> str:
    """The one that OCTAD_TEST_ETCD names, or what `tools/ensure_etcd.sh` has put in place."""
    named = os.environ.get("OCTAD_TEST_ETCD")
    cached = str(REPOSITORY / ".cache" / "bin" / "etcd")
    found = shutil.which(named) if named else shutil.which("etcd") or shutil.which(cached)
    if found is None:
        pytest.fail("there is no etcd here: run tools/ensure_etcd.sh")
    return found


def free_ports(count: int) -> list[int]:
    """Ports that no one listened on just now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class EtcdMember:
    """One etcd process with a data directory of its own."""

    def __init__(
        self,
        name: str,
        ports: tuple[int, int],
        cluster: str,
        directory: Path,
        options: Sequence[str] = (),
        scheme: str = "http",
    ) -> None:
        self.url = f"{scheme}://127.0.0.1:{ports[0]}"
        self._log = directory / f"{name}.log"
        peer_url = f"http://127.0.0.1:{ports[1]}"
        self._command = [
            etcd_binary(),
            f"--name={name}",
            f"--data-dir={directory / name}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster={cluster}",
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_S_MAX
        while not self._is_healthy():
            if time.monotonic() > deadline:
                pytest.fail(f"etcd did not start:\n{self._log.read_text()[-3000:]}")
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def version(self) -> str:
        with urllib.request.urlopen(f"{self.url}/version", timeout=5) as answer:
            return str(json.load(answer)["etcdserver"])

    def _is_healthy(self) -> bool:
        try:
            anybody = ssl._create_unverified_context()
            with urllib.request.urlopen(f"{self.url}/health", timeout=1, context=anybody) as answer:
                return bool(json.load(answer)["health"] == "true")
        except (urllib.error.URLError, OSError):
            return False


def make_etcd(directory: Path, members: int = 1) -> list[EtcdMember]:
    """The members of a cluster, not yet started."""
    directory.mkdir()
    ports = free_ports(2 * members)
    pairs = list(zip(ports[::2], ports[1::2], strict=True))
    cluster = ",".join(
        f"m{number}=http://127.0.0.1:{peer}" for number, (_, peer) in enumerate(pairs)
    )
    return [EtcdMember(f"m{number}", pair, cluster, directory) for number, pair in enumerate(pairs)]
