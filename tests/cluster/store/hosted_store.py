"""The embedded store in a process of its own, to be killed, frozen and restarted."""

from __future__ import annotations

import os
from pathlib import Path

from tests.harness.process_tree import ProcessTree

from octad.chaos.cluster.control_processes import READY
from octad.chaos.cluster.processes import CONTROL
from octad.client.cluster.join_token import encode_join_token
from octad.coordinator.recovery.create_cluster import new_join_token
from octad.coordinator.store.http_format import PURPOSE

TOKEN = new_join_token()
KEY = TOKEN.key_for(PURPOSE)
READY_S_MAX = 30.0


class HostedStore(ProcessTree):
    """The process."""

    def __init__(self, directory: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        command = (*CONTROL, "store", directory / "store.db", f"127.0.0.1:{port}")
        environment = {**os.environ, "OCTAD_JOIN_TOKEN": encode_join_token(TOKEN)}
        super().__init__(command, directory / "hosted_store.log", environment=environment)

    def wait_until_ready(self) -> None:
        self.wait_until_it_says(READY, READY_S_MAX)
