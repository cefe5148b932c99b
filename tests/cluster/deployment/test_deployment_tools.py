"""`docker-compose.yml` and what it mounts, as the programs that read them in earnest see them."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from tests.cluster.deployment.deployment_tools import compose_reader, tool
from tests.unit.deployment.deployment_files import (
    COMPOSE_FILE,
    HAPROXY_FILE,
    PROMETHEUS_FILE,
    VARIABLE,
    services,
)

pytestmark = pytest.mark.cluster

VARIABLES = set(VARIABLE.findall(COMPOSE_FILE.read_text()))


def read_by_compose(variables: set[str]) -> subprocess.CompletedProcess[str]:
    environment = {**dict.fromkeys(variables, "value"), "PATH": os.environ["PATH"]}
    command = [*compose_reader(), str(COMPOSE_FILE)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_compose_understands_the_file_as_it_is_meant() -> None:
    done = read_by_compose(VARIABLES)
    assert done.returncode == 0, done.stderr
    understood = json.loads(done.stdout)["services"]
    assert understood.keys() == services().keys()
    for name, service in services().items():
        assert understood[name].get("command") == service.get("command"), name
        assert understood[name].get("environment") == service.get("environment"), name
        assert understood[name]["cap_drop"] == ["ALL"], name


@pytest.mark.parametrize("missing", sorted(VARIABLES))
def test_compose_names_a_variable_that_is_not_set(missing: str) -> None:
    done = read_by_compose(VARIABLES - {missing})
    assert done.returncode != 0
    assert missing in done.stderr


def test_haproxy_understands_its_file() -> None:
    done = subprocess.run(
        [tool("haproxy"), "-c", "-f", str(HAPROXY_FILE)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_prometheus_understands_its_file() -> None:
    done = subprocess.run(
        [tool("promtool"), "check", "config", str(PROMETHEUS_FILE)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
