"""Libraries that people bring, each with its newest version and its defaults.

Each program is what an application does with it, and asserts what comes back.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cluster.clients.client_environment import run_program
from tests.harness.cluster_process import DevCluster
from tests.harness.s3_clients import s3_client

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def bucket(cluster: DevCluster) -> str:
    """One for all programs that make none; each has a prefix of its own."""
    with s3_client(cluster) as client:
        client.create_bucket(Bucket="python-clients")
    return "python-clients"


@pytest.mark.parametrize(
    "program",
    [
        "minio_files",
        "s3fs_pandas",
        "obstore_objects",
        "pyarrow_dataset",
        "duckdb_tables",
        "polars_frames",
        "smart_open_lines",
        "django_storage",
        "octad_pandas",
    ],
)
def test_a_program_written_for_s3_runs_unchanged(
    cluster: DevCluster, bucket: str, program: str
) -> None:
    run_program(cluster, program, bucket)


def test_writers_of_one_delta_table_lose_no_commit(cluster: DevCluster, bucket: str) -> None:
    run_program(cluster, "deltalake_commits", bucket, *map(cluster.endpoint, range(3)))


def test_writers_of_one_iceberg_table_lose_no_commit(
    cluster: DevCluster, bucket: str, tmp_path: Path
) -> None:
    endpoints = map(cluster.endpoint, range(3))
    run_program(cluster, "pyiceberg_commits", bucket, *endpoints, tmp_path / "catalog.db")
