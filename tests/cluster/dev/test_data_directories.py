"""Data directories that are not what a start expects: another cluster's, a newer octad's, damaged.

Each is refused in one line that says what and where, or repaired; bytes that are not what was
written are never served.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.harness.cluster_process import OCTAD, DevCluster, Refused, StartCluster
from tests.harness.s3_clients import put_status, s3_client

from octad.chaos.cluster.free_ports import free_port
from octad.client.cluster.join_token import encode_join_token
from octad.coordinator.recovery.create_cluster import new_join_token
from octad.coordinator.schema.records import CLUSTERS, StoreKeys
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import Put
from octad.storage_node.operations.registry import FORMAT_LEVEL

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024
OBJECTS = 20
WAIT_S = 20.0
FILLED_S = 60.0


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A record in a node's journal."""

    segment: Path
    offset: int
    length: int
    kind: str

    def flip_last_byte(self) -> None:
        """The last byte is the object's own."""
        self.replace_at(self.offset + self.length - 1)

    def replace_at(self, offset: int) -> None:
        with self.segment.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ 1]))


def journal_of(node: Path) -> list[OnDisk]:
    """What `octad journal dump` shows."""
    dumped = subprocess.run(
        [OCTAD, "journal", "dump", "--json", node], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in dumped.stdout.splitlines()]
    return [
        OnDisk(
            node / "journal" / f"{line['segment']:010}.segment",
            line["offset"],
            line["length"],
            line["kind"],
        )
        for line in lines
    ]


def puts_of(node: Path) -> list[OnDisk]:
    return [record for record in journal_of(node) if record.kind == "PUT_OBJECT"]


def body_of(number: int) -> bytes:
    return f"object {number} ".encode() * 10


def fill(cluster: DevCluster, bucket: str) -> None:
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=bucket)
        for number in range(OBJECTS):
            client.put_object(Bucket=bucket, Key=str(number), Body=body_of(number))


def expect_all(cluster: DevCluster, bucket: str, node: int) -> None:
    with s3_client(cluster, node) as client:
        for number in range(OBJECTS):
            answer = client.get_object(Bucket=bucket, Key=str(number))
            assert answer["Body"].read() == body_of(number), f"{number} through node {node + 1}"


def restart(cluster: DevCluster) -> tuple[str | Path, ...]:
    """The words after `octad` that start it again."""
    return tuple(cluster.command()[1:])


def start_without(cluster: DevCluster, node: str) -> str:
    """Start it; the two nodes that can serve do. Gives what is said of the other one."""
    cluster.start()
    said = cluster.said()
    assert "2 of 3 nodes" in said, said
    lines = [line for line in said.splitlines() if line.startswith(f"  {node}")]
    assert len(lines) == 1, said
    after = said.partition(lines[0])[2].splitlines()[1]
    return f"{lines[0]}; {after.strip()}"


def until_filled_anew(cluster: DevCluster) -> None:
    """The first node, by the others: as n4."""
    log = cluster.data / "n1.log"
    deadline = time.monotonic() + FILLED_S
    while "n4 is ready" not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def test_a_node_of_another_cluster_is_refused(start_cluster: StartCluster) -> None:
    ours, theirs = start_cluster(), start_cluster()
    ours.stop()
    theirs.stop()
    (ours.data / "n1").rename(ours.data.parent / "kept")
    (theirs.data / "n1").rename(ours.data / "n1")
    line = start_without(ours, "n1")
    assert str(ours.data / "n1") in line
    assert "belongs to cluster" in line
    ours.stop()
    (ours.data / "n1").rename(theirs.data / "n1")
    (ours.data.parent / "kept").rename(ours.data / "n1")
    ours.start()


def test_a_node_with_another_clusters_token_is_refused(
    start_cluster: StartCluster, refused: Refused
) -> None:
    cluster = start_cluster()
    cluster.stop()
    token = encode_join_token(new_join_token())
    node = cluster.data / "n1"
    listen = f"127.0.0.1:{free_port()}"
    line = refused("node", "--data", node, "--listen", listen, "--join-token", token)
    assert str(node) in line
    assert "belongs to cluster" in line
    assert "--join-token" in line or "join token" in line


@pytest.mark.parametrize(
    ("file", "field"), [("n1/superblock.json", "format_version"), ("cluster.json", "format")]
)
def test_a_newer_format_is_refused(
    start_cluster: StartCluster, refused: Refused, file: str, field: str
) -> None:
    cluster = start_cluster()
    cluster.stop()
    path = cluster.data / file
    content = json.loads(path.read_bytes())
    newer = {**content, field: content[field] + 1}
    newer.pop("checksum", None)  # Else it is one that was damaged.
    path.write_text(json.dumps(newer))
    of_node = file.startswith("n1")
    line = start_without(cluster, "n1") if of_node else refused(*restart(cluster))
    assert str(path if file == "cluster.json" else path.parent) in line
    assert f"format {content[field] + 1}" in line
    assert f"this octad knows {content[field]}" in line


def test_a_node_that_knows_less_than_its_clusters_format_level_does_not_start(
    start_cluster: StartCluster, refused: Refused
) -> None:
    cluster = start_cluster()
    fill(cluster, "whole")
    cluster.stop()
    asyncio.run(use_level(cluster, FORMAT_LEVEL + 1))
    line = refused(*restart(cluster))
    assert f"uses format level {FORMAT_LEVEL + 1} and this octad knows {FORMAT_LEVEL}" in line
    assert "upgrade this node, what is on its disk is intact" in line
    assert "install the octad that the other nodes run" in line
    asyncio.run(use_level(cluster, FORMAT_LEVEL))
    cluster.start()
    for number in range(3):
        expect_all(cluster, "whole", number)


async def use_level(cluster: DevCluster, level: int) -> None:
    """As the leader puts it, once all nodes know it."""
    store = await EmbeddedStore.open(cluster.data / "store.sqlite")
    (listed,) = (await store.range(CLUSTERS)).entries
    (name,) = json.loads(listed.value)
    value = json.dumps({"level": level}).encode()
    await store.transact([], [Put(StoreKeys(name).format_level, value)])
    await store.close()


def test_a_node_that_is_put_back_as_it_was_is_refused_until_its_newer_disk_is_back(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    node, older, newer = (cluster.data / name for name in ("n1", "older", "newer"))
    cluster.stop()
    shutil.copytree(node, older)
    cluster.start()
    fill(cluster, "since")
    cluster.stop()
    node.rename(newer)
    shutil.copytree(older, node)
    line = start_without(cluster, "n1")
    assert f"{node} is an older copy" in line
    assert "put the newer directory back, or move this one away" in line
    cluster.stop()
    shutil.rmtree(node)
    newer.rename(node)
    cluster.start()
    for number in range(3):
        expect_all(cluster, "since", number)


def test_a_torn_tail_is_dropped_without_a_word(start_cluster: StartCluster) -> None:
    cluster = start_cluster()
    fill(cluster, "torn")
    cluster.kill()
    for number in (1, 2, 3):
        last = journal_of(cluster.data / f"n{number}")[-1]
        with last.segment.open("r+b") as file:
            file.seek(last.offset)
            half = file.read(last.length)[: last.length // 2]
            file.seek(end_of_journal(cluster.data / f"n{number}"))
            file.write(half)
    cluster.start()
    for node in range(3):
        expect_all(cluster, "torn", node)
        log = (cluster.data / f"n{node + 1}.log").read_text()
        assert "damage" not in log, log


def end_of_journal(node: Path) -> int:
    verified = subprocess.run(
        [OCTAD, "journal", "verify", "--json", node], capture_output=True, text=True, check=True
    )
    return int(json.loads(verified.stdout)["end_offset"])


def test_damage_in_the_journal_stops_a_start_with_file_and_offset(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    fill(cluster, "damaged")
    cluster.kill()  # Nothing of it is in the index: a start reads all of the journal.
    record = puts_of(cluster.data / "n1")[OBJECTS // 2]
    record.flip_last_byte()
    line = start_without(cluster, "n1")
    assert str(record.segment) in line
    assert f"offset {record.offset}" in line
    until_filled_anew(cluster)
    for node in range(3):
        expect_all(cluster, "damaged", node)


def test_an_index_that_cannot_be_opened_is_made_anew_without_a_command(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    fill(cluster, "no-index")
    cluster.stop()
    node = cluster.data / "n1"
    (node / "index" / "CURRENT").write_text("MANIFEST-999999\n")
    cluster.start()
    for number in range(3):
        expect_all(cluster, "no-index", number)
    assert (
        "nothing is lost: it is made anew from the journal" in (cluster.data / "n1.log").read_text()
    )
    assert not (node / "index.damaged").exists()


def test_damage_on_a_running_node_is_reported_and_another_copy_served(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    fill(cluster, "spoilt")
    with s3_client(cluster) as client:
        client.put_object(Bucket="spoilt", Key="large", Body=b"l" * 300_000)
    damaged = [record for record in journal_of(cluster.data / "n1") if "PUT" in record.kind]
    for record in damaged:
        record.flip_last_byte()
    expect_all(cluster, "spoilt", node=0)
    with s3_client(cluster) as client:
        assert client.get_object(Bucket="spoilt", Key="large")["Body"].read() == b"l" * 300_000
    log = (cluster.data / "n1.log").read_text()
    assert f"{damaged[0].segment} is damaged at offset {damaged[0].offset}" in log


def test_the_others_go_on_reading_while_a_damaged_node_cannot_start(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    fill(cluster, "two-left")
    record = puts_of(cluster.data / "n1")[OBJECTS // 2]
    record.flip_last_byte()
    os.kill(cluster.nodes[0].pid, 9)
    log = cluster.data / "n1.log"
    deadline = time.monotonic() + WAIT_S
    while f"damaged at offset {record.offset}" not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    for node in (1, 2):
        expect_all(cluster, "two-left", node)
    until_filled_anew(cluster)
    expect_all(cluster, "two-left", node=0)
    with s3_client(cluster) as client:
        client.put_object(Bucket="two-left", Key="again", Body=b"again")


def free_bytes(disk: Path) -> int:
    state = os.statvfs(disk)
    return state.f_bavail * state.f_frsize


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_disk_that_fills_up_takes_no_writes_and_goes_on_reading(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1600m", "tmpfs", disk], check=True)
    cluster = DevCluster(disk, nodes=2)  # Room for their reserves and more, once it is freed.
    try:
        cluster.start()
        fill(cluster, "full")
        filler = disk / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free_bytes(disk) - MIB)
        with s3_client(cluster) as client:
            deadline = time.monotonic() + WAIT_S
            while put_status(client, "full", "large", bytes(MIB)) != 507:  # Until each has looked.
                assert time.monotonic() < deadline
            statuses = [put_status(client, "full", "large", bytes(MIB)) for _ in range(140)]
        assert set(statuses) == {507}, "no member has room, so none is asked for any"
        for node in range(2):
            expect_all(cluster, "full", node)
        filler.unlink()
        with s3_client(cluster) as client:
            deadline = time.monotonic() + WAIT_S
            while put_status(client, "full", "large", bytes(MIB)) != 200:
                assert time.monotonic() < deadline
    finally:
        cluster.kill()
        subprocess.run(["umount", "--lazy", disk], check=True)
