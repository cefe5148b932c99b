"""Disks damage a node's files, one after another, while clients use all nodes: no one sees it.

The seed of what failed is in its message: OCTAD_TEST_SEED=N makes the same damages again.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import shutil
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.cluster.damage.file_damage import NODES, Damage, do, plan, short_plan
from tests.cluster.dev.test_dev_lost_disk import octad
from tests.harness.checked_load import PAUSE_S, CheckedLoad
from tests.harness.cluster_process import DevCluster, StartCluster

from octad.client.cli.coordinator_option import DEV_FILE
from octad.client.cluster.status_document import STATUS_PATH, ClusterStatus, decode_status
from octad.coordinator.schema.node_report import INDEX_LOST

pytestmark = pytest.mark.cluster

REPAIRED_S_MAX = 240.0  # While no copy under way comes further.
# What is overwritten meanwhile is not given back, since no process runs for as long as that takes.
LONG_PAUSE_S = 0.1
POLL_S = 0.1
SEED_VARIABLE = "OCTAD_TEST_SEED"
RESTARTS_MAX = 3  # Per node, for damage that does not keep it down.
_REFUSES = re.compile(r"^octad: (?!.* in use by process).*$", re.MULTILINE)


def seed_or(default: int) -> int:
    return int(os.environ.get(SEED_VARIABLE, default))


class Disks:
    """The nodes of a cluster, as what their disks do to them sees them."""

    def __init__(self, cluster: DevCluster, load: CheckedLoad) -> None:
        self.cluster = cluster
        self.load = load
        self.story: list[str] = []
        self.whole_after_s: list[float] = []
        self._rebuild_killed = True
        self._gone: dict[int, Callable[[], None]] = {}  # What to call when it is back.

    def data(self, place: int) -> Path:
        return self.cluster.data / f"n{place + 1}"

    def said(self, place: int) -> str:
        return self.data(place).with_suffix(".log").read_text(errors="replace")

    def strike(self, damage: Damage) -> None:
        """Damage it, look at everything, and wait until all is there three times again."""
        began, restarts = time.monotonic(), self._restarts()
        places = [(damage.place + more) % NODES for more in range(1 + damage.twice)]
        self._rebuild_killed = not damage.rebuild_killed
        back = {place: self._damage(damage, place) for place in places}
        for place in places:
            if not back[place]:
                self.replace(place)
            self.load.check_all_at(place)  # Which meets whatever is damaged of what is needed.

        def both_are_lost() -> bool:
            """Of each other's shards one copy is left: too few for anything but a command."""
            return damage.twice and all(map(self._index_lost, places))

        self.until(lambda: self.is_healthy() or both_are_lost(), str(damage))
        for place in places if both_are_lost() else []:
            assert self._more_is_damaged, damage
            self.story.append("  replaced: its index is lost, as is the other one's")
            self.replace(place)
        for place in places:
            self.load.check_all_at(place)
        self.load.renew_uploads(damage.place)
        self.whole_after_s.append(time.monotonic() - began)
        assert self._restarts() - restarts <= RESTARTS_MAX * len(places) or not all(back.values())

    def _damage(self, damage: Damage, place: int) -> bool:
        """Once the node serves again, maybe as a new one; False where that needs someone."""
        before = len(self.said(place))
        if damage.when == "running":
            self.story.append(f"{damage}: {do(damage, self.data(place))}")
            return True
        with self.stopped(place, damage.when):
            self.story.append(f"{damage}: {do(damage, self.data(place))}")

        def refusals() -> list[str]:
            return _REFUSES.findall(self.said(place)[before:])

        def needs_somebody() -> bool:
            return any("move the directory away" in said or "mv " in said for said in refusals())

        def is_ready() -> bool:
            return " is ready" in self.said(place)[before:]

        def waits_for_the_other() -> bool:
            """Of either's shards one verified copy is left: too few to fill either by itself."""
            return place != damage.place and bool(refusals()) and self._index_lost(damage.place)

        def is_settled() -> bool:
            return is_ready() or needs_somebody()

        self.until(lambda: is_settled() or waits_for_the_other(), str(damage))
        if not is_settled():
            assert self._more_is_damaged, damage
            self.story.append(f"  n{damage.place + 1} replaced: the journals of both are damaged")
            self.replace(damage.place)
            self.until(is_settled, str(damage))
        self.story += [f"  {refusal}" for refusal in dict.fromkeys(refusals())]
        assert not refusals() or damage.may_keep_it_down() or self._more_is_damaged, refusals()
        if not is_ready():
            self.story.append("  replaced")
            return False
        self.back(place)
        return True

    def replace(self, place: int) -> None:
        """Its disk is another one, without anything on it."""
        was = self.running(place)["id"]
        with self.stopped(place, "killed"):
            for each in self.data(place).iterdir():
                if each.name != "LOCK":
                    shutil.rmtree(each) if each.is_dir() else each.unlink()
            shutil.rmtree(self.data(place))
        self.until(lambda: self.running(place)["id"] != was, "another node is there")
        self.until(lambda: self.copies_are_there(place), "all copies are there again")
        self.back(place)
        code, said = octad(self.cluster, "node", "remove", f"n{was}")
        assert code == 0, said
        self.until(self.is_healthy, "healthy without the old node")

    @property
    def _more_is_damaged(self) -> bool:
        return any("journal: " in line or "own files: " in line for line in self.story)

    @contextmanager
    def stopped(self, place: int, when: str) -> Iterator[None]:
        """Its supervisor starts it again, but it waits for the lock."""
        if place not in self._gone:
            self._gone[place] = self.load.away(place)
        lock = (self.data(place) / "LOCK").open("ab")
        try:
            pid = self.running(place)["pid"]
            if pid:  # 0 while it cannot start.
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM if when == "stopped" else signal.SIGKILL)
                    self.until(lambda: not _runs(pid), "its end")
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            lock.close()

    def back(self, place: int) -> None:
        self._gone.pop(place)()

    def wait_for_rounds(self) -> None:
        """Until everything was listed at each node a few times more."""
        before = self.load.rounds.copy()
        self.until(
            lambda: all(now > then + 5 for now, then in zip(self.load.rounds, before, strict=True)),
            "listings",
        )

    # -- what it says --------------------------------------------------------------------------

    def running(self, place: int) -> dict[str, int]:
        nodes: Sequence[dict[str, int]] = json.loads((self.cluster.data / DEV_FILE).read_bytes())[
            "nodes"
        ]
        return nodes[place]

    def _restarts(self) -> int:
        return self.cluster.log.read_text().count("starting it again")

    def status(self) -> ClusterStatus:
        with urllib.request.urlopen(self.cluster.coordinator + STATUS_PATH, timeout=10) as answer:
            return decode_status(answer.read())

    def is_healthy(self) -> bool:
        status = self.status()
        return status.state == "healthy" and status.copies == {"3": 256}

    def copies_are_there(self, place: int) -> bool:
        status, name = self.status(), f"n{self.running(place)['id']}"
        there = {node.name: (node.live, node.member_of) for node in status.nodes}
        return there.get(name) == (True, 256) and status.copies == {"3": 256}

    def _index_lost(self, place: int) -> bool:
        name = f"n{self.running(place)['id']}"
        return any(node.name == name and node.index == INDEX_LOST for node in self.status().nodes)

    def until(self, found: Callable[[], bool], what: str) -> None:
        deadline, least = time.monotonic() + REPAIRED_S_MAX, math.inf
        while not found():
            self.load.check()
            left = self.status().copying.bytes_left or math.inf
            if left < least:
                deadline = time.monotonic() + REPAIRED_S_MAX
            least = min(least, left) if left < math.inf else left
            assert time.monotonic() < deadline, f"{what}:\n{octad(self.cluster, 'status')[1]}"
            self._kill_rebuild()
            time.sleep(POLL_S)
        self.load.check()

    def _kill_rebuild(self) -> None:
        for pid in [] if self._rebuild_killed else self.cluster.pids():
            with suppress(FileNotFoundError, ProcessLookupError):
                if b"index_rebuild_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
                    self._rebuild_killed = True
                    self.story.append(f"  killed the process {pid} that made an index")


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def all_is_there(
    start_cluster: StartCluster, seed: int, damages: Sequence[Damage], pause_s: float = PAUSE_S
) -> None:
    cluster = start_cluster(nodes=NODES)
    load = CheckedLoad(cluster, "damaged", seed, pause_s=pause_s)
    disks = Disks(cluster, load)
    began = time.monotonic()
    try:
        with load.working():
            disks.wait_for_rounds()
        cluster.stop()  # Its indexes are in files from now on.
        cluster.start()
        with load.working():
            for damage in damages:
                disks.strike(damage)
            for place in range(NODES):
                disks.replace(place)
            for place in range(NODES):
                load.check_all_at(place)
    except BaseException as error:
        error.add_note(
            f"{SEED_VARIABLE}={seed}; a client met {load.failure!r}\n" + "\n".join(disks.story)
        )
        raise
    finally:
        print(f"seed {seed}: {load.requests} requests in {time.monotonic() - began:.0f} s")
        print("\n".join(disks.story), "\n", [round(each, 1) for each in disks.whole_after_s])
        print("503:", load.unavailable, "longest:", load.longest_s)
    assert not load.unavailable, f"{SEED_VARIABLE}={seed}: another member could have answered"


def test_ten_damages_are_seen_by_nobody_and_nothing_is_lost(start_cluster: StartCluster) -> None:
    seed = seed_or(1)
    all_is_there(start_cluster, seed, short_plan(seed))


@pytest.mark.long
def test_two_hundred_damages_are_seen_by_nobody(start_cluster: StartCluster) -> None:
    seed = seed_or(2)
    all_is_there(start_cluster, seed, plan(seed, 200), LONG_PAUSE_S)
