"""Nodes that an earlier `octad dev` left: waited for, and named when they do not end."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from octad.client.runtime.command import CommandError
from octad.storage_node.dev import dev_former_run
from octad.storage_node.dev.dev_former_run import wait_for_former_nodes
from octad.storage_node.journal.data_directory import LOCK_NAME

HOLDER = """
import fcntl, os, sys
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
os.write(lock, b"%d 17\\n" % os.getpid())
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has n2, as a node has it."""
    (tmp_path / "n2").mkdir()
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "n2" / LOCK_NAME)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_node_that_is_about_to_end_is_waited_for(
    tmp_path: Path, holder: subprocess.Popen[bytes]
) -> None:
    ends = threading.Timer(0.3, holder.kill)
    ends.start()
    assert wait_for_former_nodes(tmp_path), "it was killed, so its ports may be busy yet"
    assert holder.wait() != 0
    ends.join()


def test_one_that_does_not_end_is_named_with_the_command_that_ends_it(
    tmp_path: Path, holder: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev_former_run, "END_S_MAX", 0.1)
    with pytest.raises(CommandError) as refused:
        wait_for_former_nodes(tmp_path)
    assert f"{tmp_path / 'n2'} is in use by process {holder.pid}" in refused.value.what
    assert refused.value.fix == f"kill {holder.pid}"


def test_nobody_is_waited_for_where_all_have_stopped(tmp_path: Path) -> None:
    for name in ("n1", "n2", "n3.damaged"):
        (tmp_path / name).mkdir()
    (tmp_path / "n1" / LOCK_NAME).touch()
    (tmp_path / "n3.damaged" / LOCK_NAME).write_text("4711 17\n")  # No place of a node.
    (tmp_path / "n1.log").touch()
    assert not wait_for_former_nodes(tmp_path)


def test_a_directory_that_cannot_be_read_is_left_to_its_node(tmp_path: Path) -> None:
    (tmp_path / "n1").mkdir()
    (tmp_path / "n1" / LOCK_NAME).symlink_to("/proc/self/mem")
    assert not wait_for_former_nodes(tmp_path)
