"""The programs that read what a cluster in containers is made of, where they can be had."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from tests.unit.deployment.deployment_files import REPOSITORY

ENSURE = REPOSITORY / "tools" / "ensure_deployment_tool.sh"


def tool(name: str) -> str:
    """Its path; the test is skipped, with the reason, where it cannot be had."""
    done = subprocess.run([ENSURE, name], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    return done.stdout.strip()


def compose_reader() -> list[str]:
    """The words before a compose file's name: docker's client, which needs no engine for this, or
    a program of ours around the library that it reads the file with."""
    for words in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(words[0]) is None:
            continue
        version = subprocess.run([*words, "version", "--short"], capture_output=True, text=True)
        if version.returncode == 0 and not version.stdout.startswith("1."):  # Another language.
            return [*words, "config", "--format", "json", "--file"]
    return [tool("compose-check")]
