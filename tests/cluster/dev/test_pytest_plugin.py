"""The fixtures `octad` and `octad_bucket`, in a test run of an application's own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.harness.process_tree import ProcessTree

pytestmark = pytest.mark.cluster

RUN_S_MAX = 120.0
GONE_S_MAX = 10.0

TESTS = """
import os
import pathlib
import urllib.request

import pytest

SEEN = pathlib.Path(__file__).parent / "seen"


@pytest.fixture(autouse=True)
def noted(octad):
    (SEEN / os.environ["PYTEST_XDIST_WORKER"]).write_text(octad.endpoint)


@pytest.mark.parametrize("number", range(6))
def test_each_has_a_bucket_of_its_own(octad_bucket, number):
    assert list(octad_bucket.list()) == []
    octad_bucket.put("k", b"%d" % number)
    assert octad_bucket.get("k").data == b"%d" % number


def test_others_reach_it(octad, octad_bucket):
    octad_bucket.put("k", b"abc")
    assert octad.environment["AWS_ENDPOINT_URL"] == octad.endpoint
    with urllib.request.urlopen(octad_bucket.presign("k")) as answer:
        assert answer.read() == b"abc"


def test_it_may_be_gone(octad, octad_bucket):
    octad.client.delete_bucket(octad_bucket.name)
"""

HANGS = """
def test_hangs(octad):
    import time
    print("it serves", flush=True)
    time.sleep(600)
"""


def pytest_run(directory: Path, tests: str, *options: str) -> ProcessTree:
    (directory / "seen").mkdir()
    (directory / "test_it.py").write_text(tests)
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:asyncio"]
    command += ["--basetemp=tmp", *options]
    tree = ProcessTree(command, directory / "log", environment=environment, directory=directory)
    return tree.start()


def test_each_process_of_tests_has_a_cluster_of_its_own_and_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    tree = pytest_run(tmp_path, TESTS, "-n", "2")
    try:
        assert tree.wait(RUN_S_MAX) == 0, tree.said()
        assert tree.wait_until_gone(GONE_S_MAX) == []
    finally:
        tree.kill()
    assert "8 passed" in tree.said()
    endpoints = {file.name: file.read_text() for file in (tmp_path / "seen").iterdir()}
    assert set(endpoints) == {"gw0", "gw1"}
    assert len(set(endpoints.values())) == 2
    assert list((tmp_path / "tmp").rglob("cluster.json")) == []


def test_the_cluster_ends_with_tests_that_are_killed(tmp_path: Path) -> None:
    tree = pytest_run(tmp_path, HANGS, "-s")
    try:
        tree.wait_until_it_says("it serves", RUN_S_MAX)
        others = set(tree.pids()) - {tree.pid}
        assert len(others) >= 2  # The supervisor and its node.
        os.kill(tree.pid, 9)
        assert tree.wait(GONE_S_MAX) == -9
        assert tree.wait_until_gone(GONE_S_MAX) == []
    finally:
        tree.kill()
