"""`octad kv` as a user types it, on coordinators that are killed, and a real etcd."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.coordinator.coordinator_site import (
    OCTAD,
    CoordinatorProcess,
    Start,
    forget_clusters,
    store_of,
    until,
)
from tests.cluster.store.etcd_process import EtcdMember
from tests.harness.process_tree import ProcessTree

from octad.client.cluster.join_token import decode_join_token
from octad.client.kv.kv_records import KV_VALUE_BYTES_MAX

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]

SECONDS_MAX = 60
EXIT_NO_KEY = 4


class Site:
    """Two coordinators, and `octad kv` at either."""

    def __init__(self, first: CoordinatorProcess, second: CoordinatorProcess, token: str) -> None:
        self.first = first
        self.urls = f"{first.url},{second.url}"
        self.environment = {**os.environ, "OCTAD_SERVICE_TOKEN": token}

    def kv(self, *words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*OCTAD, "kv", *words, "--coordinator", self.urls],
            input=given,
            capture_output=True,
            env=self.environment,
            timeout=SECONDS_MAX,
            check=False,
        )

    def document(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kv(*words, "--json").stdout)
        return found


@pytest.fixture
async def site(etcd: EtcdMember, start: Start) -> AsyncIterator[Site]:
    first = start()
    token = first.printed("join token")
    yield Site(first, start("--join-token", token), token)
    async with store_of(etcd, decode_join_token(token)) as store:
        await forget_clusters(store)


async def test_a_setting_is_there_for_everyone_who_watches_though_a_coordinator_dies(
    site: Site, start: Callable[..., object], tmp_path: Path
) -> None:
    assert site.kv("get", "app/limits").returncode == EXIT_NO_KEY
    watching = ProcessTree(
        [*OCTAD, "kv", "watch", "app/limits", "--json", "--coordinator", site.urls],
        tmp_path / "watch.log",
        environment=site.environment,
    ).start()
    try:
        await until(lambda: len(watching.said().splitlines()) == 1, "it shows that there is none")
        value = os.urandom(KV_VALUE_BYTES_MAX)
        assert site.kv("put", "app/limits", "-", given=value).returncode == 0
        assert site.kv("get", "app/limits").stdout == value
        site.first.kill()
        assert site.kv("put", "app/limits", "two").returncode == 0
        await until(lambda: len(watching.said().splitlines()) >= 3, "it shows both")
    finally:
        watching.kill()
    shown = [json.loads(line)["value"] for line in watching.said().splitlines()]
    assert (shown[0], shown[-1]) == (None, "dHdv")
    entry = site.document("get", "app/limits")
    stale = site.kv("put", "app/limits", "three", "--if-revision", str(entry["revision"] - 1))
    assert stale.returncode == 1
    assert stale.stderr.decode().startswith("octad: app/limits is at revision")
    keys = site.document("ls", "app/")["keys"]
    assert keys == [{"key": "app/limits", "revision": entry["revision"], "bytes": 3}]
    assert site.kv("rm", "app/limits", "--if-revision", str(entry["revision"])).returncode == 0
    assert site.kv("rm", "app/limits").returncode == EXIT_NO_KEY
    assert site.kv("ls").stdout == b"there is no such key\n"
    assert b"up to 256 letters" in site.kv("get", "a b").stderr
