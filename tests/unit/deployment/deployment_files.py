"""The files that a cluster in containers is made of, read and with their variables filled in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
COMPOSE_FILE = REPOSITORY / "docker-compose.yml"
DOCKERFILE = REPOSITORY / "Dockerfile"
HAPROXY_FILE = REPOSITORY / "deploy" / "haproxy.cfg"
PROMETHEUS_FILE = REPOSITORY / "deploy" / "prometheus.yml"
HEALTHCHECK = REPOSITORY / "deploy" / "healthcheck.py"
VARIABLE = re.compile(r"\$\{(\w+):\?[^}]*\}")

Service = dict[str, Any]


def compose(variables: dict[str, str]) -> dict[str, Any]:
    """`docker-compose.yml` with `variables` in place."""
    text = VARIABLE.sub(lambda found: variables[found[1]], COMPOSE_FILE.read_text())
    document = yaml.safe_load(text)
    assert isinstance(document, dict)
    return document


def services(variables: dict[str, str] | None = None) -> dict[str, Service]:
    """By name."""
    names = set(VARIABLE.findall(COMPOSE_FILE.read_text()))
    found = compose(variables or dict.fromkeys(names, "value"))["services"]
    assert isinstance(found, dict)
    return found
