"""The journal and the index of a node are damaged: the others fill it anew, without a command.

Clients work through all nodes all the while, and meet nothing that is wrong, missing or a 500, nor
a 503 but where two of three nodes are away.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cluster.damage.file_damage import Damage, do
from tests.cluster.damage.test_damaged_files import Disks
from tests.cluster.dev.test_dev_lost_disk import octad
from tests.harness.checked_load import CheckedLoad
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.s3_clients import s3_client

pytestmark = pytest.mark.cluster

COLD, COLD_OBJECTS = "cold", 800


class BothDamaged(Disks):
    """Disks that damage whatever would repair the other."""

    def damage_journal(self, place: int) -> None:
        """A block in the middle of what is written."""
        damage = Damage(place, "killed", "journal", "first.segment", "zeroed", 0.5, 0)
        self.story.append(f"{damage}: {do(damage, self.data(place))}")

    def break_index(self, place: int) -> None:
        """It does not open."""
        damage = Damage(place, "killed", "index", "CURRENT", "removed", 0.0, 0)
        self.story.append(f"{damage}: {do(damage, self.data(place))}")

    def flip_index(self, place: int) -> None:
        """Among rows of cold objects: it opens, and whoever reads or counts these meets it."""
        files = (self.data(place) / "index").glob("*.sst")
        largest = max(files, key=lambda each: each.stat().st_size)
        for share in (0.25, 0.3, 0.35):
            damage = Damage(place, "stopped", "index", largest.name, "flipped", share, 0)
            self.story.append(f"{damage}: {do(damage, self.data(place))}")

    def set_aside(self, place: int) -> list[Path]:
        return list(self.data(place).glob("set-aside-*"))

    def filled_anew(self, place: int, was: int) -> None:
        """Wait until a new node is there, full, and what the old one had is deleted."""
        self.until(lambda: self.running(place)["id"] != was, "another node is there")
        self.until(lambda: self.copies_are_there(place), "all copies are there again")
        self.back(place)
        self.until(self.is_healthy, "healthy, without a command")
        self.until(lambda: not self.set_aside(place), "what was set aside is deleted")

    def id(self, place: int) -> int:
        return self.running(place)["id"]


def cold_body(number: int) -> bytes:
    return f"cold {number} ".encode() * 20


def put_cold(cluster: DevCluster) -> None:
    """So many that their rows fill blocks of an index, which a start does not read."""
    with s3_client(cluster) as client, ThreadPoolExecutor(16) as pool:
        client.create_bucket(Bucket=COLD)

        def put(number: int) -> None:
            client.put_object(Bucket=COLD, Key=f"{number:08}", Body=cold_body(number))

        list(pool.map(put, range(COLD_OBJECTS)))


def check_cold(cluster: DevCluster, place: int) -> None:
    with s3_client(cluster, place) as client, ThreadPoolExecutor(16) as pool:

        def get(number: int) -> bytes:
            answer = client.get_object(Bucket=COLD, Key=f"{number:08}")
            body: bytes = answer["Body"].read()
            return body

        bodies = list(pool.map(get, range(COLD_OBJECTS)))
    assert bodies == [cold_body(number) for number in range(COLD_OBJECTS)]


@contextmanager
def worked_on(cluster: DevCluster, bucket: str) -> Iterator[tuple[CheckedLoad, BothDamaged]]:
    """Clients at all nodes, for a while already."""
    load = CheckedLoad(cluster, bucket, seed=5)
    disks = BothDamaged(cluster, load)
    try:
        with load.working():
            disks.wait_for_rounds()
            yield load, disks
    except BaseException as error:
        error.add_note(f"a client met {load.failure!r}\n" + "\n".join(disks.story))
        raise


@pytest.mark.long
def test_a_node_without_journal_and_index_is_filled_anew_and_other_disks_may_be_lost_then(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    put_cold(cluster)
    with worked_on(cluster, "both-damaged") as (load, disks):
        was = disks.id(1)
        with disks.stopped(1, "killed"):
            disks.damage_journal(1)
            disks.break_index(1)
        disks.filled_anew(1, was)
        said = cluster.said()
        assert f"the journal of n{was} was damaged: n4 takes its place" in said, said

        was = disks.id(2)
        before = disks.said(2).count("is ready")
        with disks.stopped(2, "stopped"):  # So that rows are in files, and not replayed.
            disks.damage_journal(2)
            disks.flip_index(2)
        disks.until(lambda: disks.said(2).count("is ready") > before, "n3 serves")
        check_cold(cluster, 2)
        disks.filled_anew(2, was)
        assert "no index can be made from the journal in" in disks.said(2)

        for place in (0, 1):
            disks.replace(place)
        for place in range(3):
            load.check_all_at(place)
            check_cold(cluster, place)
        assert {node.name for node in disks.status().nodes} == {"n5", "n6", "n7"}
    assert not load.unavailable, "another member could have answered"


def test_while_another_copy_is_missing_nothing_is_set_aside_and_the_doctor_says_why(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    with worked_on(cluster, "one-missing") as (load, disks):
        was = disks.id(1)
        with disks.stopped(2, "killed"):
            disks.until(lambda: disks.status().copies == {"2": 256}, "n3 is left out")
            with disks.stopped(1, "killed"):
                disks.damage_journal(1)
                disks.break_index(1)

            def doctor() -> str:
                return octad(cluster, "doctor")[1]

            disks.until(lambda: "2 other copies that are verified" in doctor(), "n2 has tried")
            time.sleep(6.0)  # Longer than what was in its way would have to be gone.
            assert "2 other copies that are verified" in doctor()
            assert not disks.set_aside(1)
        disks.filled_anew(1, was)
        disks.back(2)
        for place in range(3):
            load.check_all_at(place)
