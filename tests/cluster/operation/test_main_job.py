"""The main job: a directory tree goes in, every process is killed, the same tree comes out.

The tree is Python's own standard library and a few files that are hard to name or to carry. Three
clients that people use take it in and out, each through its own bucket of one cluster.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pytest
from tests.harness.cluster_process import DevCluster
from tests.harness.s3_clients import aws_environment, s3_client

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024
AWS = Path(sys.executable).with_name("aws")
NOT_SOURCES = ("__pycache__", "site-packages", "dist-packages", "config-*")
ODD_NAMES = (
    "with spaces in it.txt",
    "ünïcode-名前-🐙.txt",
    "plus+sign.txt",
    "percent%20sign%.txt",
    "a&b=c;d?e#f.txt",
    "quote'and(brackets)!~*.txt",
)


class TreeClient(Protocol):
    """A client that can carry a directory into a bucket and back."""

    def copy_in(self, cluster: DevCluster, tree: Path, bucket: str) -> None: ...

    def copy_out(self, cluster: DevCluster, bucket: str, target: Path) -> None: ...


class AwsCli:
    """`aws s3 sync`."""

    def copy_in(self, cluster: DevCluster, tree: Path, bucket: str) -> None:
        self._aws(cluster, "mb", f"s3://{bucket}")
        self._aws(cluster, "sync", str(tree), f"s3://{bucket}/tree")
        again = self._aws(cluster, "sync", "--dryrun", str(tree), f"s3://{bucket}/tree")
        assert again == "", f"the listing misses what was just copied:\n{again[:2000]}"

    def copy_out(self, cluster: DevCluster, bucket: str, target: Path) -> None:
        self._aws(cluster, "sync", f"s3://{bucket}/tree", str(target))

    def _aws(self, cluster: DevCluster, *arguments: str) -> str:
        command = [str(AWS), "s3", *arguments]
        if arguments[0] == "sync":
            command.append("--no-progress")
        return run(command, cluster)


class Boto3:
    """`upload_file` and `download_file` from eight threads, through all nodes in turn."""

    def copy_in(self, cluster: DevCluster, tree: Path, bucket: str) -> None:
        files = [path for path in tree.rglob("*") if path.is_file()]
        with s3_client(cluster, node=1) as client, ThreadPoolExecutor(8) as pool:
            client.create_bucket(Bucket=bucket)
            uploads = [
                pool.submit(client.upload_file, str(path), bucket, str(path.relative_to(tree)))
                for path in files
            ]
            for upload in uploads:
                upload.result()

    def copy_out(self, cluster: DevCluster, bucket: str, target: Path) -> None:
        with s3_client(cluster, node=2) as client, ThreadPoolExecutor(8) as pool:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            downloads = []
            for key in [entry["Key"] for page in pages for entry in page.get("Contents", [])]:
                path = target / key
                path.parent.mkdir(parents=True, exist_ok=True)
                downloads.append(pool.submit(client.download_file, bucket, key, str(path)))
            for download in downloads:
                download.result()


class Rclone:
    """`rclone copy`."""

    def copy_in(self, cluster: DevCluster, tree: Path, bucket: str) -> None:
        run(["rclone", "mkdir", self._remote(cluster, bucket)], cluster)
        run(["rclone", "copy", str(tree), self._remote(cluster, bucket)], cluster)

    def copy_out(self, cluster: DevCluster, bucket: str, target: Path) -> None:
        run(["rclone", "copy", self._remote(cluster, bucket), str(target)], cluster)

    def _remote(self, cluster: DevCluster, bucket: str) -> str:
        return f":s3,provider=Other,env_auth=true,endpoint='{cluster.endpoint()}':{bucket}"


class S3cmd:
    """`s3cmd sync`, where rclone is not to be had."""

    def copy_in(self, cluster: DevCluster, tree: Path, bucket: str) -> None:
        self._s3cmd(cluster, "mb", f"s3://{bucket}")
        self._s3cmd(cluster, "sync", f"{tree}/", f"s3://{bucket}/")

    def copy_out(self, cluster: DevCluster, bucket: str, target: Path) -> None:
        self._s3cmd(cluster, "sync", f"s3://{bucket}/", f"{target}/")

    def _s3cmd(self, cluster: DevCluster, *arguments: str) -> None:
        host = cluster.nodes[0].s3
        where = ["--no-ssl", f"--host={host}", f"--host-bucket={host}", "--config=/dev/null"]
        keys = [f"--access_key={cluster.access_key}", f"--secret_key={cluster.secret_key}"]
        run(["s3cmd", "--quiet", "--no-preserve", *where, *keys, *arguments], cluster)


def run(command: list[str], cluster: DevCluster) -> str:
    """Run a client; it must succeed. Gives what it printed."""
    done = subprocess.run(
        command,
        env=aws_environment(cluster),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}"
    return done.stdout


def third_client() -> TreeClient:
    """The one that this machine has."""
    if shutil.which("rclone"):
        return Rclone()
    if shutil.which("s3cmd"):
        return S3cmd()
    pytest.skip("neither rclone nor s3cmd is installed: apt-get install rclone")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thousands of real files of all sizes; S3 has no empty directories, so there is none."""
    tree = tmp_path_factory.mktemp("source") / "tree"
    shutil.copytree(
        sysconfig.get_path("stdlib"),
        tree,
        ignore=shutil.ignore_patterns(*NOT_SOURCES),
        ignore_dangling_symlinks=True,
    )
    special = tree / "octad special files"
    special.mkdir()
    sizes = {"empty": 0, "one byte": 1, "5 MiB": 5 * MIB, "100 MiB": 100 * MIB}
    for name, size in sizes.items():
        (special / name).write_bytes(os.urandom(size))
    for name in ODD_NAMES:
        (special / name).write_text(f"a file named {name}\n")
    for directory in sorted(tree.rglob("*"), reverse=True):
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
    return tree


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """One cluster for all clients of this file: each later one finds it grown and killed before."""
    cluster = DevCluster(tmp_path_factory.mktemp("main-job"))
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.kill()


@pytest.mark.parametrize(
    ("bucket", "make_client"), [("awscli", AwsCli), ("boto3", Boto3), ("third", third_client)]
)
def test_a_tree_comes_back_byte_identical_after_every_process_was_killed(
    bucket: str,
    make_client: Callable[[], TreeClient],
    own_cluster: DevCluster,
    tree: Path,
    tmp_path: Path,
) -> None:
    client = make_client()
    back = tmp_path / "back"

    client.copy_in(own_cluster, tree, bucket)
    own_cluster.kill()
    own_cluster.start()
    client.copy_out(own_cluster, bucket, back)

    compared = subprocess.run(
        ["diff", "-r", str(tree), str(back)], capture_output=True, text=True, check=False
    )
    assert compared.returncode == 0, compared.stdout[-4000:]
    assert compared.stdout == ""
    shutil.rmtree(back)
