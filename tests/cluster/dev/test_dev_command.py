"""`octad dev` as a user meets it: it starts, stops cleanly, and says in one line what is wrong."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest
from tests.cluster.store.etcd_process import EtcdMember
from tests.harness.cluster_process import OCTAD, DevCluster, Refused, StartCluster
from tests.harness.process_tree import ProcessTree
from tests.harness.s3_clients import s3_client

from octad.chaos.cluster.free_ports import free_port

pytestmark = pytest.mark.cluster

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("ctrl_c", [False, True], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_stops_every_process_with_exit_code_0(
    start_cluster: StartCluster, ctrl_c: bool
) -> None:
    cluster = start_cluster()
    if ctrl_c:
        cluster.tree.signal_all(signal.SIGINT)
        cluster.expect_clean_end()
    else:
        cluster.stop()


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux has this policy")
def test_nodes_that_share_cores_do_not_interrupt_each_other(start_cluster: StartCluster) -> None:
    for process in start_cluster().pids():
        assert os.sched_getscheduler(process) == os.SCHED_BATCH


def test_a_request_in_flight_is_finished_before_the_cluster_stops(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    with s3_client(cluster) as client:
        client.create_bucket(Bucket="in-flight")
        url = client.generate_presigned_url("put_object", {"Bucket": "in-flight", "Key": "slow"})
    body = b"x" * 100_000
    connection = http.client.HTTPConnection(cluster.nodes[0].s3, timeout=20)
    connection.putrequest("PUT", url.removeprefix(cluster.endpoint()))
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:50_000])
    time.sleep(0.2)  # The node has read the head and a part of the body by now.

    cluster.tree.signal(signal.SIGTERM)
    time.sleep(0.3)  # It is stopping by now, and must wait for us.
    connection.send(body[50_000:])
    assert connection.getresponse().status == http.client.OK
    connection.close()
    cluster.expect_clean_end()


def test_acknowledged_objects_are_there_after_a_clean_stop(start_cluster: StartCluster) -> None:
    cluster = start_cluster()
    with s3_client(cluster, node=1) as client:
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="a", Body=b"first")
    cluster.stop()
    cluster.start()
    with s3_client(cluster, node=2) as client:
        assert client.get_object(Bucket="kept", Key="a")["Body"].read() == b"first"


def test_fresh_forgets_what_was_there(start_cluster: StartCluster) -> None:
    cluster = start_cluster()
    with s3_client(cluster) as client:
        client.create_bucket(Bucket="old")
    cluster.stop()
    cluster.options.append("--fresh")
    cluster.start()
    with s3_client(cluster) as client:
        assert client.list_buckets()["Buckets"] == []


def test_two_nodes_keep_two_replicas(start_cluster: StartCluster) -> None:
    cluster = start_cluster(nodes=2, options=("--replicas", "2"))
    with s3_client(cluster) as client:
        client.create_bucket(Bucket="pair")
        client.put_object(Bucket="pair", Key="a", Body=b"both")
    with s3_client(cluster, node=1) as client:
        assert client.get_object(Bucket="pair", Key="a")["Body"].read() == b"both"


def test_status_shows_nodes_shards_and_store(cluster: DevCluster) -> None:
    done = subprocess.run(
        [OCTAD, "status", "--json", "--coordinator", cluster.coordinator],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    status = json.loads(done.stdout)
    assert status["state"] == "healthy"
    assert {node["s3_address"] for node in status["nodes"]} == {node.s3 for node in cluster.nodes}
    assert all(node["live"] and node["version"] for node in status["nodes"])
    assert [pool["shards"]["ok"] for pool in status["pools"] if pool["replicas"] == 3] == [256]
    assert status["store"]["kind"] == "embedded"


def test_every_node_serves_from_the_moment_that_ready_is_printed(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    with s3_client(cluster) as client:
        client.create_bucket(Bucket="at-once")
    for node in range(3):
        with s3_client(cluster, node) as client:
            client.put_object(Bucket="at-once", Key=f"by-{node}", Body=b"x")
            assert client.get_object(Bucket="at-once", Key=f"by-{node}")["Body"].read() == b"x"


def test_make_run_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    port = free_port(range(3))
    arguments = f"--data {tmp_path / 'data'} --s3-port {port}"
    make = ["make", "run", f"ARGS={arguments}"]
    tree = ProcessTree(make, tmp_path / "log", directory=REPOSITORY).start()
    try:
        tree.wait_until_it_says("ready", 60)
        said = tree.said()
        assert f"http://127.0.0.1:{port}" in said
        assert all(tool in said for tool in ("boto3", "aws", "rclone")), said
        tree.signal_all(signal.SIGINT)
        tree.wait(20)
        assert tree.wait_until_gone(timeout_s=5) == []
    finally:
        tree.kill()


# Bad input: one line that says what is wrong and how to fix it.


def test_a_port_in_use_is_named(refused: Refused, tmp_path: Path) -> None:
    port = free_port(range(3))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + 1))
        taken.listen()
        line = refused("dev", "--data", tmp_path / "data", "--s3-port", str(port))
    assert str(port + 1) in line
    assert "--s3-port" in line


def test_an_unknown_option_is_named(refused: Refused, tmp_path: Path) -> None:
    line = refused("dev", "--data", tmp_path / "data", "--nope")
    assert "--nope" in line
    assert "--help" in line


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--nodes", "0"), "--nodes"),
        (("--replicas", "4"), "--replicas"),
        (("--nodes", "1", "--replicas", "2"), "--nodes"),
        (("--nodes", "2", "--replicas", "3"), "--nodes"),
        (("--s3-port", "70000"), "--s3-port"),
    ],
)
def test_numbers_that_make_no_cluster_are_refused(
    refused: Refused, tmp_path: Path, options: tuple[str, ...], named: str
) -> None:
    assert named in refused("dev", "--data", tmp_path / "data", *options)
    assert not (tmp_path / "data").exists(), "something was started half-way"


def test_a_directory_that_may_not_be_written_is_named(refused: Refused, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        data = Path("/sys/octad-data")  # Root may write anywhere, but not here.
    else:
        tmp_path.chmod(0o500)
        data = tmp_path / "data"
    line = refused("dev", "--data", data, "--s3-port", str(free_port(range(3))))
    assert str(data) in line


@pytest.mark.parametrize("below", ["", "deep/er"], ids=["itself", "above it"])
def test_a_file_where_the_data_should_be_is_named(
    refused: Refused, tmp_path: Path, below: str
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    line = refused("dev", "--data", file / below, "--s3-port", str(free_port(range(3))))
    assert f"{file} is a file, not a directory" in line
    assert "--data" in line


@pytest.mark.parametrize("options", [(), ("--fresh",)], ids=["plain", "fresh"])
def test_nothing_is_left_in_a_directory_that_is_somebody_elses(
    refused: Refused, tmp_path: Path, options: tuple[str, ...]
) -> None:
    data = tmp_path / "holiday"
    data.mkdir(0o755)
    (data / "beach.jpg").write_text("mine")
    refused("dev", "--data", data, "--s3-port", str(free_port(range(3))), *options)
    assert [path.name for path in data.iterdir()] == ["beach.jpg"]
    assert stat.S_IMODE(data.stat().st_mode) == 0o755


def test_what_it_writes_is_its_owners_alone_and_old_data_too(start_cluster: StartCluster) -> None:
    def open_to_others() -> list[str]:
        found = [cluster.data, *cluster.data.rglob("*")]
        return [str(path) for path in found if path.stat().st_mode & 0o077]

    cluster = start_cluster(nodes=1)
    assert open_to_others() == []
    cluster.stop()
    everything = [cluster.data, *cluster.data.rglob("*")]
    for path in everything:
        path.chmod(0o755 if path.is_dir() else 0o644)
    cluster.start()
    assert open_to_others() == []
    assert {path.name for path in everything} >= {"store.sqlite", "n1.log", "CURRENT", "LOCK"}


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_disk_that_is_mounted_read_only_is_named(refused: Refused, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=2m", "tmpfs", disk], check=True)
    try:
        line = refused("dev", "--data", disk / "data", "--s3-port", str(free_port(range(3))))
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
    assert str(disk) in line
    assert "read-only" in line


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_full_disk_is_named_at_start(refused: Refused, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=True)
    try:
        line = refused("dev", "--data", disk / "data", "--s3-port", str(free_port(range(3))))
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
    assert str(disk) in line
    assert "full" in line or "space" in line


def test_an_etcd_that_is_not_there_is_named(refused: Refused, tmp_path: Path) -> None:
    port = free_port(range(4))
    url = f"http://127.0.0.1:{port + 3}"
    line = refused("dev", "--data", tmp_path / "data", "--s3-port", str(port), "--etcd", url)
    assert url.removeprefix("http://") in line
    assert "etcd" in line


def test_a_second_cluster_on_the_same_data_is_refused(
    refused: Refused, start_cluster: StartCluster
) -> None:
    cluster = start_cluster()
    line = refused("dev", "--data", cluster.data, "--s3-port", str(free_port(range(3))))
    assert str(cluster.data) in line
    with s3_client(cluster) as client:
        client.list_buckets()


# A real etcd in place of the embedded store.


@pytest.mark.etcd
def test_a_cluster_keeps_its_configuration_in_etcd(
    etcd: EtcdMember, start_cluster: StartCluster
) -> None:
    cluster = start_cluster(options=("--etcd", etcd.url))
    with s3_client(cluster) as client:
        client.create_bucket(Bucket="in-etcd")
        client.put_object(Bucket="in-etcd", Key="a", Body=b"kept")
    cluster.kill()
    cluster.start()
    with s3_client(cluster, node=1) as client:
        assert client.get_object(Bucket="in-etcd", Key="a")["Body"].read() == b"kept"
