"""A process that was started by a supervisor does not outlive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from octad.storage_node.cli.parent_death import kill_with_parent

BUSY = """
import os
from octad.storage_node.cli.parent_death import kill_with_parent
kill_with_parent(os.getppid())
print(flush=True)
while True:
    pass
"""
SUPERVISOR = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel tells")
def test_a_busy_process_ends_when_its_parent_is_killed() -> None:
    command = [sys.executable, "-c", SUPERVISOR, BUSY]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        supervisor.stdout.readline()
        os.kill(supervisor.pid, signal.SIGKILL)
        assert supervisor.stdout.read() == b"", "no one has the other end of it any more"


def test_a_parent_that_is_gone_already_is_noticed() -> None:
    with pytest.raises(ProcessLookupError):
        kill_with_parent(os.getpid())
