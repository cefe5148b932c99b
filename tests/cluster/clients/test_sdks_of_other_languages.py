"""The AWS SDKs of other languages, in their newest versions and with their defaults."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tests.cluster.clients.client_environment import PROGRAMS, ROOT, run_client
from tests.harness.cluster_process import DevCluster
from tests.harness.s3_clients import s3_client

GUIDE = ROOT / "docs/how-to/use-s3-clients.md"

pytestmark = [pytest.mark.cluster, pytest.mark.long]


def sdks_of(language: str) -> Path:
    """The directory of a language's SDKs; made when it is not there."""
    ensure: list[str | Path] = [ROOT / "tools/ensure_sdks.sh", language]
    made = subprocess.run(ensure, stdout=subprocess.PIPE, check=True)
    return Path(made.stdout.decode().strip())


def run_javascript(cluster: DevCluster, program: Path) -> str:
    modules = sdks_of("javascript") / "node_modules"
    return run_client(cluster, ["env", f"NODE_PATH={modules}", "node", "--no-warnings", program])


def run_java(cluster: DevCluster, program: Path) -> str:
    return run_client(cluster, ["java", "-cp", sdks_of("java") / "*", program])


def test_a_javascript_program_runs_unchanged(cluster: DevCluster) -> None:
    run_javascript(cluster, PROGRAMS / "javascript_sdk.js")


@pytest.mark.parametrize("program", ["java_sdk", "java_sdk_1"])
def test_a_java_program_runs_unchanged(cluster: DevCluster, program: str) -> None:
    run_java(cluster, PROGRAMS / f"{program}.java")


def test_a_go_program_runs_unchanged(cluster: DevCluster) -> None:
    run_client(cluster, ["go", "run", "-C", sdks_of("go"), PROGRAMS / "go_sdk.go"])


def test_the_programs_of_the_guide_run(cluster: DevCluster, tmp_path: Path) -> None:
    with s3_client(cluster) as client:
        client.create_bucket(Bucket="clients")
    for language, run in (("js", run_javascript), ("java", run_java)):
        program = tmp_path / f"example.{language}"
        (block,) = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)
        program.write_text(block)
        assert "hello" in run(cluster, program)
