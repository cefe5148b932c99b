"""One place of `octad dev`: a directory, its ports, and the node that runs there now.

The node of place 2 is n2, until the directory loses its data. Then a new node comes to the place,
with an id that nobody ever had. Only the process itself says which id it has, so none but its own
node is ever declared dead when it ends.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from octad.client.core.shown_command import shown_command
from octad.coordinator.store.interface import StoreUnavailable
from octad.sharding.ids import NodeId, node_name
from octad.storage_node.shell.data_directory import SUPERBLOCK_NAME
from octad.storage_node.shell.dev_directory import DevCluster, DevDirectory
from octad.storage_node.shell.node_command import (
    DRAIN_SIGNAL,
    DRAINED_WORD,
    ID_WORD,
    READY_WORD,
    REPORT_VARIABLE,
    SUPERVISOR_VARIABLE,
)

HOST = "127.0.0.1"
STOP_S_MAX = 20.0
RESTART_S_MIN = 0.2
RESTART_S_MAX = 5.0
STORE_RETRY_S = 0.5
_WORDS_BYTES_MAX = 64  # More than a process says in all its life.
_ID = re.compile(re.escape(ID_WORD) + rb"(\d+)\n")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a place asks and tells its supervisor."""

    is_taken: Callable[[NodeId], Awaitable[bool]]  # Whether the id was ever handed out.
    died: Callable[[NodeId], Awaitable[None]]  # No process of this node is left.
    say: Callable[[str], None]  # A line for people.


class NodeProcess:
    """One node's process: started, started again when it dies, stopped."""

    def __init__(
        self,
        number: int,
        directory: DevDirectory,
        cluster: DevCluster,
        s3_port: int,
        coordinator_url: str,
        surroundings: Surroundings,
    ) -> None:
        self._number = number
        self._directory = directory
        self._cluster = cluster
        self._around = surroundings
        self.place = f"n{number}"
        self.s3 = f"{HOST}:{s3_port + number - 1}"
        self.rpc_port = cluster.rpc_ports[number - 1]
        self.log = directory.path / f"{self.place}.log"
        self.ready = False
        self.on_change: Callable[[], None] = lambda: None  # Another process or another id.
        self._data = directory.path / self.place
        self._coordinator_url = coordinator_url
        self._environment = {
            **os.environ,
            "OCTAD_JOIN_TOKEN": cluster.join_token,
            SUPERVISOR_VARIABLE: str(os.getpid()),
        }
        self._process: asyncio.subprocess.Process | None = None
        self._process_id: NodeId | None = None  # Of the process that runs now, once it says so.
        self._task: asyncio.Task[None] | None = None
        self._serves = asyncio.Event()  # The process that runs now.
        self._drained = asyncio.Event()
        self._stopping = False

    @property
    def pid(self) -> int:
        """Of the process that runs now; 0 for none."""
        return self._process.pid if self._process is not None else 0

    @property
    def id(self) -> NodeId:
        """Of the node that was here last; the place's number before the first one."""
        return NodeId(self._cluster.node_ids[self._number - 1] or self._number)

    @property
    def name(self) -> str:
        return node_name(self.id)

    def start(self) -> None:
        """Run it, for ever."""
        self._task = asyncio.create_task(self._keep_running(), name=self.place)

    def failure(self) -> str | None:
        """Why it ended before it was ever ready: the last line it printed."""
        if self._task is None or not self._task.done():
            return None
        lines = self.log.read_text(errors="replace").splitlines() or ["it printed nothing"]
        return lines[-1]

    async def drain(self) -> None:
        """Let it finish its clients' requests and take no more; other nodes still reach it."""
        self._stopping = True
        if self._process is not None and self._process.returncode is None and self._serves.is_set():
            self._process.send_signal(DRAIN_SIGNAL)
            with suppress(TimeoutError):  # Then its stop will cut them short.
                await asyncio.wait_for(self._drained.wait(), STOP_S_MAX)

    async def stop(self) -> None:
        """Ask it to stop; kill it when it takes too long."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_S_MAX)
            except TimeoutError:
                process.kill()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_running(self) -> None:
        back_off_s = RESTART_S_MIN
        while not self._stopping:
            begun = time.monotonic()
            wanted = await self._wanted_id()
            if self._stopping:
                return
            await self._run_once(wanted)
            if not self.ready:
                return  # It never came up: the supervisor says why and gives up.
            if self._stopping:
                return
            if time.monotonic() - begun > RESTART_S_MAX:
                back_off_s = RESTART_S_MIN
            self._around.say(f"{self.name} ended; starting it again (see {self.log})")
            await asyncio.sleep(back_off_s)
            back_off_s = min(back_off_s * 2, RESTART_S_MAX)

    async def _wanted_id(self) -> NodeId | None:
        """The place's number for its first node. Else None: the disk knows, or it is a new node."""
        number = NodeId(self._number)
        if self._cluster.node_ids[number - 1] or (self._data / SUPERBLOCK_NAME).exists():
            return None
        while not self._stopping:
            try:
                return None if await self._around.is_taken(number) else number
            except StoreUnavailable:  # Nobody can join meanwhile.
                await asyncio.sleep(STORE_RETRY_S)
        return None

    async def _run_once(self, wanted: NodeId | None) -> None:
        said, say = os.pipe()
        os.set_blocking(said, False)
        loop = asyncio.get_running_loop()
        self._serves.clear()
        self._process_id = None
        try:
            with self.log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command(wanted),
                    env={**self._environment, REPORT_VARIABLE: str(say)},
                    pass_fds=(say,),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C goes to the supervisor, who stops in order.
                )
        finally:
            os.close(say)
        loop.add_reader(said, self._hear, said)
        self.on_change()
        try:
            await self._process.wait()
            self._hear(said)  # What it said just before it died.
            if self._process_id is not None and not self._stopping:
                # While all of them end, nobody shall be left out.
                await self._around.died(self._process_id)
        finally:
            self._drained.set()  # Whoever waits for it need not any more.
            loop.remove_reader(said)
            os.close(said)

    def _command(self, wanted: NodeId | None) -> list[str]:
        return [
            *(sys.executable, "-m", "octad", "node", "--data", str(self._data)),
            *("--listen", self.s3, "--rpc-port", str(self.rpc_port)),
            *("--coordinator", self._coordinator_url, "--zone", self.place),
            *("--admin-listen", f"{HOST}:0"),
            *(() if wanted is None else ("--id", str(wanted))),
        ]

    def _hear(self, said: int) -> None:
        """The node says who it is, serves, is drained, or has ended."""
        try:
            words = os.read(said, _WORDS_BYTES_MAX)
        except BlockingIOError:
            return
        who = _ID.search(words)
        if who is not None:
            self._process_id = NodeId(int(who[1]))
            self._remember(self._process_id)
        if READY_WORD in words:
            self.ready = True
            self._serves.set()
        if DRAINED_WORD in words:
            self._drained.set()
        if not words:
            asyncio.get_running_loop().remove_reader(said)

    def _remember(self, node: NodeId) -> None:
        """Whoever is here now; says so where it is not who was here, or should be."""
        former = self._cluster.node_ids[self._number - 1]
        if node == former:
            return
        self._cluster.node_ids[self._number - 1] = node
        self._directory.write_cluster(self._cluster)
        if former:
            old = node_name(NodeId(former))
            forget = shown_command("octad", "node", "remove", old, "--data", self._directory.path)
            self._around.say(
                f"{old} has lost its data: it comes back as {node_name(node)}, a new node, and is "
                "filled again from the others; once octad status says that every copy is there, "
                f"forget the old one: {forget}"
            )
        elif node != self._number:
            self._around.say(
                f"n{self._number} was taken: the node in {self._data} is {node_name(node)}"
            )
        self.on_change()
