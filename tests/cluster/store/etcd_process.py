"""Real etcd servers on free loopback ports, one or a cluster, to kill, freeze and restart."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.harness.process_tree import ProcessTree

from octad.chaos.cluster.free_ports import free_port

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


class EtcdMember(ProcessTree):
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
        peer_url = f"http://127.0.0.1:{ports[1]}"
        command = [
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
        super().__init__(command, directory / f"{name}.log")

    def wait_until_ready(self) -> None:
        self.wait_until(self._is_healthy, "become healthy", READY_S_MAX)

    def version(self) -> str:
        with urllib.request.urlopen(f"{self.url}/version", timeout=5) as answer:
            return str(json.load(answer)["etcdserver"])

    def term(self) -> int:
        """The term of the present leader; raises OSError."""
        url = f"{self.url}/v3/maintenance/status"
        with urllib.request.urlopen(url, data=b"{}", timeout=1) as answer:
            return int(json.load(answer)["raftTerm"])

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
    first = free_port(range(2 * members))
    pairs = [(first + 2 * number, first + 2 * number + 1) for number in range(members)]
    cluster = ",".join(
        f"m{number}=http://127.0.0.1:{peer}" for number, (_, peer) in enumerate(pairs)
    )
    return [EtcdMember(f"m{number}", pair, cluster, directory) for number, pair in enumerate(pairs)]
