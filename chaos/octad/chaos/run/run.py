"""One run: a cluster, clients at every node, the faults of a schedule, and what came of it.

    start, fill, faults under load, settle under load, stop the load, read everything everywhere

What a run leaves in its directory: `schedule.json`, `history.jsonl`, `report.txt`, every process's
log and every node's data.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from octad.chaos.check.report import Report, as_text
from octad.chaos.check.stalls import measure_stalls
from octad.chaos.check.verdict import Violation, check_history
from octad.chaos.cluster.addresses import Shape
from octad.chaos.cluster.cluster import Cluster
from octad.chaos.faults import disk_faults
from octad.chaos.faults.faults import Fault, FaultKind
from octad.chaos.faults.nemesis import Nemesis
from octad.chaos.load.clients import BUCKET, TIMEOUT_S, Client
from octad.chaos.load.history import ClientRequest, Kind, Outcome
from octad.chaos.load.recorder import Recorder
from octad.chaos.load.s3_requests import NO_ANSWER, Refused, S3Requests
from octad.chaos.load.workload import CLASSES, Choice, Habit
from octad.coordinator.store.interface import StoreUnavailable

READER = 1000  # The numbers of the clients that fill at first and read everything in the end.
SETTLE_S_DEFAULT = 60.0
SETTLE_POLL_S = 0.25
SCHEDULE_FILE, HISTORY_FILE, REPORT_FILE = "schedule.json", "history.jsonl", "report.txt"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """`directory` is made; `seed` decides what the clients do. After the faults the cluster has
    `settle_s` to become complete again.
    """

    directory: Path
    schedule: Sequence[Fault]
    seconds: float
    seed: str
    shape: Shape = field(default_factory=Shape)
    settle_s: float = SETTLE_S_DEFAULT


async def run(options: RunOptions) -> Report:
    """To its end. Raises ProcessFailed, NotPossibleHere where it cannot even be made."""
    directory = options.directory
    directory.mkdir(parents=True, exist_ok=True)
    schedule = msgspec.json.format(msgspec.json.encode(list(options.schedule)))
    (directory / SCHEDULE_FILE).write_bytes(schedule)
    async with AsyncExitStack() as cleanup:
        for number in {f.node for f in options.schedule if f.kind is FaultKind.FILL_DISK}:
            disk_faults.mount_small_disk(directory / f"n{number}")
            cleanup.callback(disk_faults.unmount, directory / f"n{number}")
        cluster = Cluster(directory, options.shape)
        await cluster.start()
        cleanup.push_async_callback(cluster.stop)
        recorder = cleanup.enter_context(Recorder(directory / HISTORY_FILE))
        report = await _Run(options, cluster, recorder, cleanup).to_its_end()
    (directory / REPORT_FILE).write_text(as_text(report))
    return report


class _Run:
    def __init__(
        self,
        options: RunOptions,
        cluster: Cluster,
        recorder: Recorder,
        cleanup: AsyncExitStack,
    ) -> None:
        self._options = options
        self._cluster = cluster
        self._recorder = recorder
        self._cleanup = cleanup
        self._values: dict[str, str] = {}
        self._nemesis = Nemesis(cluster, recorder.now)
        self._dead = {fault.node for fault in options.schedule if fault.for_s is None}

    async def to_its_end(self) -> Report:
        started = time.monotonic()
        await self._fill()
        clients = [
            self._client(len(Habit) * node + habit.value, node, habit)
            for node in self._cluster.numbers
            for habit in Habit
        ]
        working = [asyncio.create_task(client.run()) for client in clients]
        try:
            await self._nemesis.carry_out(self._options.schedule)
            await asyncio.sleep(max(0.0, self._options.seconds - self._recorder.now()))
            self._cluster.network.heal_all()
            unsettled, settled_s = await self._settle()
        finally:
            for client in clients:
                client.stop()
            await asyncio.gather(*working)
        await self._read_everywhere()
        history = self._recorder.history()
        return self._judge(history, unsettled, settled_s, time.monotonic() - started)

    def _client(self, number: int, node: int, habit: Habit = Habit.PATIENT) -> Client:
        requests = S3Requests(self._cluster.endpoint(node), self._cluster.credentials, TIMEOUT_S)
        self._cleanup.push_async_callback(requests.close)
        return Client(
            number, node, requests, self._recorder, self._options.seed, self._values, habit
        )

    async def _fill(self) -> None:
        """The bucket, and every key once."""
        node = self._cluster.numbers[0]
        requests = S3Requests(self._cluster.endpoint(node), self._cluster.credentials, TIMEOUT_S)
        self._cleanup.push_async_callback(requests.close)
        await requests.make_bucket(BUCKET)
        client = self._client(READER, node)
        for key_class in CLASSES:
            for key in key_class.keys:
                await client.do(Choice(Kind.PUT, key_class, (key,)))

    async def _settle(self) -> tuple[list[Violation], float]:
        """Wait, under load, until every shard is at full strength again."""
        begun, limit_s = time.monotonic(), self._options.settle_s
        below = -1
        while (passed := time.monotonic() - begun) < limit_s:
            try:
                below = await self._cluster.shards_below_strength()
            except StoreUnavailable:
                below = -1
            if below == 0 and await self._serves():
                return [], passed
            await asyncio.sleep(SETTLE_POLL_S)
        story = f"{below} shards were below full strength {limit_s:.0f} s after the last fault"
        return [Violation("not at full strength again", "", story)], limit_s

    async def _serves(self) -> bool:
        """Every living node takes a write."""
        for node in self._alive():
            requests = S3Requests(self._cluster.endpoint(node), self._cluster.credentials, 5.0)
            try:
                await requests.put(BUCKET, "probe/settled", b"")
            except (Refused, *NO_ANSWER):
                return False
            finally:
                await requests.close()
        return True

    async def _read_everywhere(self) -> None:
        readers = [self._client(READER + node, node) for node in self._alive()]
        await asyncio.gather(*(reader.read_all() for reader in readers))

    def _alive(self) -> list[int]:
        return [number for number in self._cluster.numbers if number not in self._dead]

    def _judge(
        self,
        history: Sequence[ClientRequest],
        unsettled: Sequence[Violation],
        settled_s: float,
        took_s: float,
    ) -> Report:
        checked = check_history(history)
        unread = _unread(history)
        return Report(
            seconds=took_s,
            operations=len(history),
            faults=tuple(str(fault) for fault in self._options.schedule),
            keys=checked.keys,
            violations=(*checked.violations, *unsettled, *unread),
            undecided=checked.undecided,
            settled_s=settled_s,
            stalls=measure_stalls(history, self._nemesis.harms),
        )


def _unread(history: Sequence[ClientRequest]) -> list[Violation]:
    """Final reads refused to the end: acknowledged writes must be readable."""
    last: dict[tuple[int, tuple[str, ...]], ClientRequest] = {
        (request.asked.client, request.asked.keys): request
        for request in history
        if request.asked.client > READER
    }
    return [
        Violation("not readable in the end", request.asked.keys[0], str(request.answer))
        for request in last.values()
        if request.outcome is not Outcome.OK
    ]
