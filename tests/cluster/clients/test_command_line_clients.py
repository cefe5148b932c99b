"""Command-line clients that people bring: s3cmd, and restic with a whole backup."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.cluster.clients.client_environment import client_python, run_client
from tests.harness.cluster_process import DevCluster
from tests.harness.s3_clients import aws_environment

pytestmark = pytest.mark.cluster

LARGE = 18 * 1024 * 1024


def some_files(directory: Path) -> dict[str, bytes]:
    """A few, one of several parts and one with an odd name."""
    contents = {
        "small.txt": b"small",
        "sub/with spaces ünï+%.txt": b"odd",
        "large.bin": os.urandom(LARGE),
    }
    for name, content in contents.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    return contents


def read_tree(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_s3cmd_syncs_a_directory_there_and_back(cluster: DevCluster, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    contents = some_files(source)
    target.mkdir()
    host = cluster.endpoint().removeprefix("http://")
    s3cmd: list[str | Path] = [
        *(client_python().with_name("s3cmd"), "--config", "/dev/null", "--no-ssl"),
        *("--host", host, "--host-bucket", host, "--region", "us-east-1"),
        *("--access_key", cluster.access_key, "--secret_key", cluster.secret_key),
        *("--multipart-chunk-size-mb", "5"),
    ]
    run_client(cluster, [*s3cmd, "mb", "s3://s3cmd"])
    run_client(cluster, [*s3cmd, "sync", f"{source}/", "s3://s3cmd/tree/"])
    again = run_client(cluster, [*s3cmd, "sync", "--dry-run", f"{source}/", "s3://s3cmd/tree/"])
    assert "upload:" not in again
    run_client(cluster, [*s3cmd, "sync", "s3://s3cmd/tree/", f"{target}/"])
    assert read_tree(target) == contents
    run_client(cluster, [*s3cmd, "cp", "s3://s3cmd/tree/small.txt", "s3://s3cmd/copy.txt"])
    run_client(cluster, [*s3cmd, "del", "--recursive", "--force", "s3://s3cmd/"])
    run_client(cluster, [*s3cmd, "rb", "s3://s3cmd"])


def test_restic_restores_what_it_has_backed_up(cluster: DevCluster, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    contents = some_files(source)
    environment = {
        **aws_environment(cluster),
        "RESTIC_REPOSITORY": f"s3:{cluster.endpoint()}/restic",
        "RESTIC_PASSWORD": "a password",
        "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
    }

    def restic(*arguments: str | Path) -> str:
        done = subprocess.run(
            ["restic", *arguments],
            cwd=source,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout.decode()
        return done.stdout.decode()

    restic("init")
    restic("backup", ".")
    (source / "small.txt").write_bytes(b"changed")
    restic("backup", ".")
    restic("check", "--read-data")
    restic("forget", "--keep-last", "1", "--prune")
    restic("restore", "latest", "--target", target)
    assert read_tree(target) == {**contents, "small.txt": b"changed"}
