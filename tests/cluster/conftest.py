"""Fixtures that start real clusters, and what they printed beside every failure."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tests.cluster.store.etcd_process import EtcdMember, make_etcd
from tests.harness.cluster_process import OCTAD, DevCluster, Refused, StartCluster
from tests.harness.process_tree import ProcessTree

REFUSED_S_MAX = 30.0

_started: list[DevCluster] = []


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_reaches_what_is_started() -> None:
    """Whatever a shell starts in the background ignores it, and so does all that it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """A cluster of three nodes that all tests share: use a bucket of your own, do not harm it."""
    shared = DevCluster(tmp_path_factory.mktemp("cluster"))
    _started.append(shared)
    shared.start()
    try:
        yield shared
        shared.stop()
    finally:
        shared.kill()
        _started.remove(shared)


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[StartCluster]:
    """Starts clusters (arguments of DevCluster) that one test may do anything to."""
    numbers = itertools.count(1)
    mine: list[DevCluster] = []

    def start(*, nodes: int = 3, options: tuple[str, ...] = (), s3_port: int = 0) -> DevCluster:
        directory = tmp_path / f"cluster-{next(numbers)}"
        directory.mkdir()
        private = DevCluster(directory, nodes=nodes, options=options, s3_port=s3_port)
        mine.append(private)
        _started.append(private)
        private.start()
        return private

    try:
        yield start
    finally:
        for private in mine:
            private.kill()
            _started.remove(private)


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """Run octad with bad input: it ends with an error, one line of it, and leaves no process.

    Gives that line.
    """
    log = tmp_path / "refused.log"

    def run(*arguments: str | Path) -> str:
        tree = ProcessTree([OCTAD, *arguments], log).start()
        try:
            code = tree.wait(REFUSED_S_MAX)
            left = tree.wait_until_gone(timeout_s=1.0)
        finally:
            tree.kill()
        said = tree.said()
        assert code != 0, said
        assert not left, f"processes left: {left}\n{said}"
        assert "Traceback" not in said, said
        lines = [line for line in said.splitlines() if line.startswith("octad")]
        assert len(lines) == 1, said
        return lines[0]

    return run


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdMember]:
    """A real etcd of this test's own."""
    member = make_etcd(tmp_path / "etcd")[0]
    member.start()
    try:
        member.wait_until_ready()
        yield member
    finally:
        member.kill()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for number, running in enumerate(_started, start=1):
            tail = running.log.read_text(errors="replace").splitlines()[-60:]
            report.sections.append((f"octad dev, cluster {number}", "\n".join(tail)))
    return report
