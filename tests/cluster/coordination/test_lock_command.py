"""`octad lock run`: a command runs in one place at a time, and what a paused one writes is refused.

Processes as a user starts them, on coordinators and a real etcd.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.cluster.coordination.protected import protected
from tests.cluster.coordinator.coordinator_site import (
    OCTAD,
    WAIT_S,
    Start,
    forget_clusters,
    store_of,
    until,
)
from tests.cluster.store.etcd_process import EtcdMember
from tests.harness.process_tree import ProcessTree

from octad.client.cluster.join_token import decode_join_token

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]

TTL_S = 2.0
# Writes for as long as it is let, and never asks whether it still may.
CARELESS = """
import os, socket, sys, time
print("pid", os.getpid(), flush=True)
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1]))).makefile("rw")
while True:
    connection.write(f"{sys.argv[2]} {os.environ['OCTAD_FENCING_TOKEN']}\\n")
    connection.flush()
    print("wrote", connection.readline(), flush=True)
    time.sleep(0.02)
"""

Run = Callable[..., ProcessTree]


@pytest.fixture
async def lock_run(etcd: EtcdMember, start: Start, tmp_path: Path) -> AsyncIterator[Run]:
    """Starts `octad lock run l …`; all of them end with the test."""
    first = start()
    token = first.printed("join token")
    urls = f"{first.url},{start('--join-token', token).url}"
    started: list[ProcessTree] = []

    def run(*words: str, action: str = "run") -> ProcessTree:
        options = ["--coordinator", urls if action == "run" else first.url]
        command = [*OCTAD, "lock", action, "l", *options, *words]
        log = tmp_path / f"lock-{len(started)}.log"
        environment = {**os.environ, "OCTAD_SERVICE_TOKEN": token}
        started.append(ProcessTree(command, log, environment=environment).start())
        return started[-1]

    yield run
    for process in started:
        process.kill()
    async with store_of(etcd, decode_join_token(token)) as store:
        await forget_clusters(store)


async def test_a_paused_holder_is_refused_by_its_token_and_its_command_is_ended(
    lock_run: Run,
) -> None:
    async with protected() as guarded:
        program = ["--ttl", str(TTL_S), "--", sys.executable, "-c", CARELESS, str(guarded.port)]

        def writes_of(name: str, *, accepted: bool) -> int:
            found = [w for w in guarded.written if (w.holder, w.accepted) == (name, accepted)]
            return len(found)

        async def writes(name: str, *, accepted: bool = True) -> None:
            before = writes_of(name, accepted=accepted)
            more = f"{name} writes, accepted: {accepted}"
            await until(lambda: writes_of(name, accepted=accepted) > before, more)

        one = lock_run("--value", "one", *program, "one")
        await writes("one")
        other = lock_run("--value", "other", *program, "other")
        await until(lambda: '"waiting":1' in listed(lock_run), "the other one waits")
        command = int(one.said().split()[1])
        os.kill(command, signal.SIGSTOP)
        os.kill(one.pid, signal.SIGSTOP)
        await writes("other")
        os.kill(command, signal.SIGCONT)
        await writes("one", accepted=False)
        os.kill(one.pid, signal.SIGCONT)
        await until(lambda: one.ended is not None, "it gives up")
        assert one.ended == 1
        assert "lock l could not be kept" in one.said()
        await writes("other")
        other.signal(signal.SIGTERM)  # For the command.
        await until(lambda: other.ended is not None, "it has ended")
        assert other.ended == 128 + signal.SIGTERM
        tokens = [write.token for write in guarded.written if write.accepted]
        assert tokens == sorted(tokens)


def listed(lock_run: Run) -> str:
    found = lock_run("--json", action="ls")
    assert found.wait(WAIT_S) == 0, found.said()
    return found.said()


async def test_the_exit_code_is_the_commands_and_who_waits_in_vain_is_told(
    lock_run: Run,
) -> None:
    seven = lock_run("--", sys.executable, "-c", "raise SystemExit(7)")
    assert seven.wait(WAIT_S) == 7, seven.said()
    assert json.loads(listed(lock_run))["locks"] == []
    holder = lock_run("--value", "me", "--", sys.executable, "-c", "import time; time.sleep(60)")
    await until(lambda: '"value":"me"' in listed(lock_run), "it is held")
    in_vain = lock_run("--wait", "0.2", "--", "true")
    assert in_vain.wait(WAIT_S) == 1
    assert in_vain.said() == ("octad: lock l was another's for 0.2 s; see whose: octad lock ls l\n")
    nothing = lock_run("--", "/no/such/command")
    holder.signal(signal.SIGINT)
    assert nothing.wait(WAIT_S) == 1
    assert "cannot run /no/such/command: No such file or directory" in nothing.said()
