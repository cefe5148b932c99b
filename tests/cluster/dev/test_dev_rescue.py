"""The embedded store of `octad dev` saved, lost, and put together again with the same commands."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.harness.cluster_process import OCTAD, DevCluster, Refused, StartCluster
from tests.harness.s3_clients import s3_client

from octad.client.cluster.join_token import JoinToken, encode_join_token
from octad.coordinator.schema.backup_format import decode_backup

pytestmark = pytest.mark.cluster


def coordinator(cluster: DevCluster, *words: str | Path) -> tuple[int, str]:
    """`octad coordinator …` on the cluster's data: its exit code and what it said."""
    command: list[str | Path] = [OCTAD, "coordinator", *words, "--data", cluster.data]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, str(done.stdout + done.stderr)


def test_a_lost_embedded_store_comes_back_from_a_backup_or_from_the_nodes(
    start_cluster: StartCluster, refused: Refused, tmp_path: Path
) -> None:
    cluster = start_cluster()
    with s3_client(cluster) as client:
        client.create_bucket(Bucket="saved")
        client.put_object(Bucket="saved", Key="a", Body=b"before")
    running, stopped = tmp_path / "running.backup", tmp_path / "stopped.backup"
    code, said = coordinator(cluster, "backup", running)
    assert (code, "keys at revision" in said) == (0, True), said
    code, said = coordinator(cluster, "restore", running, "--force")
    assert (code, "stop all coordinators of the cluster first" in said) == (1, True), said
    cluster.kill()  # What says that a coordinator leads is still in the file.
    code, said = coordinator(cluster, "backup", stopped)
    assert code == 0, said
    backups = [decode_backup(path.read_bytes()).entries for path in (running, stopped)]
    assert backups[0] == backups[1]

    code, said = coordinator(cluster, "restore", running)
    assert (code, "replace what is there with --force" in said) == (1, True), said
    code, said = coordinator(cluster, "restore", running, "--force")
    assert code == 0, said
    cluster.start()
    with s3_client(cluster, node=1) as client:
        assert client.get_object(Bucket="saved", Key="a")["Body"].read() == b"before"
        client.put_object(Bucket="saved", Key="b", Body=b"between")
    cluster.stop()

    store = cluster.data / "store.sqlite"
    start = cluster.command()[1:]
    store.write_bytes(b"no database" * 1000)
    line = refused(*start)
    assert "the nodes' data is intact" in line
    assert f"; mv {store} {store}.damaged && octad coordinator rebuild --data " in line
    for file in cluster.data.glob("store.sqlite*"):
        file.unlink()
    line = refused(*start)
    assert f"the nodes in {cluster.data} hold data, and the configuration store" in line
    assert line.endswith(f"; octad coordinator rebuild --data {cluster.data}")
    code, said = coordinator(cluster, "rebuild")
    assert (code, "octad dev" in said) == (0, True), said
    cluster.start()
    with s3_client(cluster, node=2) as client:
        assert client.get_object(Bucket="saved", Key="b")["Body"].read() == b"between"
        client.put_object(Bucket="saved", Key="c", Body=b"after")


def test_a_directory_that_no_octad_dev_made_is_named(tmp_path: Path) -> None:
    command: list[str | Path] = [OCTAD, "coordinator", "backup", tmp_path / "backup"]
    token = encode_join_token(JoinToken("5c5c5c5c", bytes(32)))
    command += ["--data", tmp_path, "--join-token", token]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    assert f"cannot read {tmp_path / 'cluster.json'}" in done.stderr
    assert list(tmp_path.iterdir()) == []
