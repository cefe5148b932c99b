"""One place of `octad dev`: a directory, its ports, and the node that runs there now.

The node of place 2 is n2, until the directory loses its data. Then a new node comes to the place,
with an id that no one ever had. Only the process itself says which id it has, so none but its own
node is ever declared dead when it ends.

A node that cannot start is tried again for ever, less and less often: it comes back by itself once
what was wrong with it is fixed. Why it does not run is in `failures` meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from octad.client.runtime.logs.log_file import LOG_FILE_VARIABLE, open_log
from octad.client.runtime.shown_command import shown_command
from octad.coordinator.status.cluster_status import NodeFailure
from octad.coordinator.store.interface import StoreUnavailable
from octad.sharding.ids import NodeId, node_name
from octad.storage_node.cli.supervision import (
    DRAIN_SIGNAL,
    DRAINED_WORD,
    FAILED_WORD,
    ID_WORD,
    ON_DISK_VARIABLE,
    READY_WORD,
    REPORT_VARIABLE,
    SUPERVISOR_VARIABLE,
)
from octad.storage_node.dev.dev_directory import DevCluster, DevDirectory
from octad.storage_node.journal import set_aside
from octad.storage_node.journal.data_directory import SUPERBLOCK_NAME

HOST = "127.0.0.1"
STOP_S_MAX = 20.0
RESTART_S_MIN = 0.2
# Pause for a node that served. One that keeps ending is started ten times in its first minute.
RESTART_S_MAX = 10.0
RETRY_S_MAX = 30.0  # Pause for one that cannot start; but no shorter than its start took.
STORE_RETRY_S = 0.5
_WORDS_BYTES_MAX = 16_384  # More than a process says in all its life.
_ID = re.compile(re.escape(ID_WORD) + rb"(\d+)\n")
_FAILED = re.compile(re.escape(FAILED_WORD) + rb"(.*)\n")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """A place's calls to its supervisor."""

    is_taken: Callable[[NodeId], Awaitable[bool]]  # Whether the id was ever handed out.
    died: Callable[[NodeId], Awaitable[None]]  # No process of this node is left.
    say: Callable[[str], None]  # A line for people.
    failures: MutableMapping[NodeId, NodeFailure]  # Why nodes do not run; removed when they serve.


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
        options: tuple[str, ...] = (),
    ) -> None:
        self._number = number
        self._directory = directory
        self._cluster = cluster
        self._around = surroundings
        self._options = options
        self.place = f"n{number}"
        self.s3 = f"{HOST}:{s3_port + number - 1}"
        self.rpc_port = cluster.rpc_ports[number - 1]
        self.log = directory.path / f"{self.place}.log"
        self.ready = False
        self.on_change: Callable[[], None] = lambda: None  # Another process or another id.
        self.on_failure: Callable[[NodeFailure], None] = lambda _: None  # It cannot start.
        self._data = directory.path / self.place
        self._coordinator_url = coordinator_url
        self._environment = {
            **os.environ,
            "OCTAD_JOIN_TOKEN": cluster.join_token,
            SUPERVISOR_VARIABLE: str(os.getpid()),
            LOG_FILE_VARIABLE: str(self.log),
            ON_DISK_VARIABLE: str(_nodes_on_disk(directory, number, len(cluster.rpc_ports))),
        }
        self._process: asyncio.subprocess.Process | None = None
        # Which node the running process is, once it has said so.
        self._process_id: NodeId | None = None
        self._task: asyncio.Task[None] | None = None
        self._serves = asyncio.Event()  # The process that runs now.
        self._drained = asyncio.Event()
        self._stopping = asyncio.Event()
        self._ended_with: NodeFailure | None = None  # As reported by the running process.

    @property
    def pid(self) -> int:
        """The id of the running process; 0 for none."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else 0

    @property
    def id(self) -> NodeId:
        """The id of the last node here; the place's number before the first one."""
        return NodeId(self._cluster.node_ids[self._number - 1] or self._number)

    @property
    def name(self) -> str:
        return node_name(self.id)

    def start(self) -> None:
        """Run it, for ever."""
        self._task = asyncio.create_task(self._keep_running(), name=self.place)

    @property
    def failure(self) -> NodeFailure | None:
        """Why it does not run, where it has tried."""
        return self._around.failures.get(self.id)

    async def drain(self) -> None:
        """Let it finish its clients' requests and take no more; other nodes still reach it."""
        self._stopping.set()
        if self._process is not None and self._process.returncode is None and self._serves.is_set():
            self._process.send_signal(DRAIN_SIGNAL)
            with suppress(TimeoutError):  # Then its stop will cut them short.
                await asyncio.wait_for(self._drained.wait(), STOP_S_MAX)

    async def stop(self) -> None:
        """Ask it to stop; kill it when it takes too long."""
        self._stopping.set()
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
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                wanted = await self._wanted_id()
                if self._stopping.is_set():
                    return
                failure = await self._run_once(wanted)
            except OSError as error:  # This process's own: no memory, no descriptors, no disk.
                failure = NodeFailure(
                    f"{self.name} cannot be started: {error}",
                    f"look at the disk under {self._directory.path}",
                )
            if self._stopping.is_set():
                return
            took_s = time.monotonic() - begun
            if not self._serves.is_set():
                self._note_failure(failure)
                await self._pause(max(back_off_s, took_s))
                back_off_s = min(back_off_s * 2, RETRY_S_MAX)
                continue
            if took_s > RESTART_S_MAX:
                back_off_s = RESTART_S_MIN
            self._around.say(f"{failure.what}; starting it again (see {self.log})")
            await self._pause(min(back_off_s, RESTART_S_MAX))
            back_off_s = min(back_off_s * 2, RESTART_S_MAX)

    async def _pause(self, seconds: float) -> None:
        """Shorter when it is to stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _note_failure(self, failure: NodeFailure) -> None:
        """Said once, however often it is tried."""
        if not failure.what.startswith(self.name):
            failure = NodeFailure(f"{self.name}: {failure.what}", failure.fix)
        if failure != self.failure:
            self._around.failures[self.id] = failure
            self.on_failure(failure)

    async def _wanted_id(self) -> NodeId | None:
        """The place's number for its first node. Else None: the disk knows, or it is a new node."""
        number = NodeId(self._number)
        if self._cluster.node_ids[number - 1] or (self._data / SUPERBLOCK_NAME).exists():
            return None
        while not self._stopping.is_set():
            try:
                return None if await self._around.is_taken(number) else number
            except StoreUnavailable:  # No node can join meanwhile.
                await asyncio.sleep(STORE_RETRY_S)
        return None

    async def _run_once(self, wanted: NodeId | None) -> NodeFailure:
        """Why it ended."""
        said, say = os.pipe()
        os.set_blocking(said, False)
        loop = asyncio.get_running_loop()
        self._serves.clear()
        self._process_id = self._ended_with = None
        try:
            with open_log(self.log) as log:
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
            self._hear(said)  # Its last messages.
            if self._process_id is not None and not self._stopping.is_set():
                # While all of them end, no one shall be left out.
                await self._around.died(self._process_id)
            return self._ended_with or self._unexplained(self._process)
        finally:
            self._drained.set()  # Nothing waits for it any more.
            loop.remove_reader(said)
            os.close(said)
            self.on_change()

    def _command(self, wanted: NodeId | None) -> list[str]:
        return [
            *(sys.executable, "-m", "octad", "node", "--data", str(self._data)),
            *("--listen", self.s3, "--rpc-port", str(self.rpc_port)),
            *("--coordinator", self._coordinator_url, "--zone", self.place),
            *("--admin-listen", f"{HOST}:0", "--log-listen", f"{HOST}:0"),
            *(() if wanted is None else ("--id", str(wanted))),
            *self._options,
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
            if self._around.failures.pop(self.id, None) is not None:
                self._around.say(f"{self.name} serves again")
        if DRAINED_WORD in words:
            self._drained.set()
        why = _FAILED.search(words)
        if why is not None:
            self._ended_with = NodeFailure(*msgspec.json.decode(why[1], type=tuple[str, str]))
        if not words:
            asyncio.get_running_loop().remove_reader(said)

    def _unexplained(self, process: asyncio.subprocess.Process) -> NodeFailure:
        """The failure of a process that was killed, or hit a bug."""
        code = process.returncode or 0
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return NodeFailure(f"{self.name} {how}", f"see {self.log}")

    def _remember(self, node: NodeId) -> None:
        """The node that is here now; logs it where that is not the former or expected one."""
        former = self._cluster.node_ids[self._number - 1]
        if node == former:
            return
        if node != self.id:
            self._around.failures.pop(self.id, None)
        self._cluster.node_ids[self._number - 1] = node
        try:
            self._directory.write_cluster(self._cluster)
        except OSError as error:  # The next run reads it from the node's own disk.
            self._around.say(f"that {self.place} is {node_name(node)} now cannot be kept: {error}")
        if former:
            old = node_name(NodeId(former))
            forget = shown_command("octad", "node", "remove", old, "--data", self._directory.path)
            if set_aside.places(self._data):
                self._around.say(
                    f"the journal of {old} was damaged: {node_name(node)} takes its place and is"
                    f" filled by the others; what {old} had is kept in {self._data} until every"
                    " copy is there again"
                )
            elif self._cluster.replicas == 1:
                self._around.say(
                    f"{old} is not in {self._data} any more: {node_name(node)} is, a new node; what"
                    f" {old} kept in one copy is nowhere else, so put its directory back:"
                    " octad doctor says what is missing"
                )
            else:
                self._around.say(
                    f"{old} has lost its data: it comes back as {node_name(node)}, a new node, and"
                    " is filled again from the others; once octad status says that every copy is"
                    f" there, forget the old one: {forget}"
                )
        elif node != self._number:
            self._around.say(
                f"n{self._number} was taken: the node in {self._data} is {node_name(node)}"
            )
        self.on_change()


def _nodes_on_disk(directory: DevDirectory, number: int, nodes: int) -> int:
    """The number of places on the same disk as place `number`: all, except mounts."""

    def disk(place: int) -> int:
        path = directory.path / f"n{place}"
        return (path if path.exists() else directory.path).stat().st_dev

    return sum(disk(place) == disk(number) for place in range(1, nodes + 1))
