"""Runs `octad VERB` as a user does, against the cluster that all tests share."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest
from tests.harness.cluster_process import OCTAD, DevCluster

from octad import Bucket, Client

TIMEOUT_S = 120.0


class Ended(NamedTuple):
    """How a verb ended."""

    code: int
    out: str
    err: str


Octad = Callable[..., Ended]


@pytest.fixture
def environment(cluster: DevCluster) -> dict[str, str]:
    """What a shell has set up for the shared cluster, and nothing else of S3."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "OCTAD_COORDINATOR"))
    }
    return {
        **kept,
        "AWS_ENDPOINT_URL": cluster.endpoint(),
        "AWS_ACCESS_KEY_ID": cluster.access_key,
        "AWS_SECRET_ACCESS_KEY": cluster.secret_key,
    }


@pytest.fixture
def octad(environment: dict[str, str], tmp_path: Path) -> Octad:
    """Runs a verb in a directory of the test's own; `env` changes the environment."""

    def run(*words: str | Path, input: str = "", env: dict[str, str] | None = None) -> Ended:
        done = subprocess.run(
            [OCTAD, *words],
            cwd=tmp_path,
            env={**environment, **(env or {})},
            input=input.encode(),
            capture_output=True,
            timeout=TIMEOUT_S,
        )
        err = done.stderr.decode()
        assert "Traceback" not in err, err
        return Ended(done.returncode, done.stdout.decode(), err)

    return run


@pytest.fixture
def client(cluster: DevCluster) -> Iterator[Client]:
    with Client(cluster.endpoint(), cluster.access_key, cluster.secret_key) as made:
        yield made


@pytest.fixture
def bucket(client: Client) -> Bucket:
    """A bucket of the test's own, empty."""
    return client.create_bucket(f"cli-{uuid4().hex[:12]}")
