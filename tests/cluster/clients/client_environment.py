"""Programs and commands of other people's clients, run against a cluster as they come."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from tests.harness.cluster_process import DevCluster
from tests.harness.s3_clients import aws_environment

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = Path(__file__).with_name("programs")
SECONDS_MAX = 180


@cache
def client_python() -> Path:
    """The Python of the environment in which the clients are; made when it is not there."""
    made = subprocess.run([ROOT / "tools/ensure_clients.sh"], stdout=subprocess.PIPE, check=True)
    return Path(made.stdout.decode().strip())


def run_client(cluster: DevCluster, command: list[str | Path], bucket: str = "") -> str:
    """What it printed; it must end with 0."""
    environment = {**aws_environment(cluster), "AWS_REGION": "us-east-1", "OCTAD_BUCKET": bucket}
    done = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS_MAX,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{said[-6000:]}"
    return said


def run_program(cluster: DevCluster, name: str, bucket: str, *arguments: str | Path) -> None:
    """One of `programs/`."""
    run_client(cluster, [client_python(), "-I", PROGRAMS / f"{name}.py", *arguments], bucket)
