"""An etcd for the module, and coordinators on it that end with the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.coordinator.coordinator_site import CoordinatorProcess, Start
from tests.cluster.store.etcd_process import EtcdMember, make_etcd


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdMember]:
    member = make_etcd(tmp_path_factory.mktemp("coordinator") / "etcd")[0]
    member.start()
    try:
        member.wait_until_ready()
        yield member
    finally:
        member.kill()


@pytest.fixture
def start(etcd: EtcdMember, tmp_path: Path) -> Iterator[Start]:
    """Starts a coordinator and waits until it answers, unless told otherwise."""
    started: list[CoordinatorProcess] = []

    def start(*options: str, ready: bool = True, etcd_url: str | None = None) -> CoordinatorProcess:
        log = tmp_path / f"coordinator-{len(started)}.log"
        process = CoordinatorProcess(etcd_url or etcd.url, log, options)
        started.append(process.start())
        if ready:
            process.wait_until_ready()
        return process

    yield start
    for process in started:
        process.kill()
