"""The alert rules and the dashboard that come with octad: read by Prometheus, and true of octad."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.deployment.deployment_tools import tool
from tests.cluster.operation.test_node_admin import admin_of
from tests.harness.cluster_process import DevCluster

pytestmark = pytest.mark.cluster

MONITORING = Path(str(files("octad.storage_node"))) / "monitoring"
ALERTS = MONITORING / "alerts.yml"
CASES = Path(__file__).with_name("alert_cases.yml")
NAME = re.compile(r"\b(?:octad|process)_\w+")
OF_GRAFANA = {"$__rate_interval": "5m", "$node": ".*"}


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    return found


def shown() -> list[str]:
    """What the dashboard asks Prometheus."""
    return [target["expr"] for panel in panels() for target in panel.get("targets", [])]


def promtool(*words: str | Path) -> str:
    done = subprocess.run([tool("promtool"), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_understands_the_alert_rules_and_what_the_dashboard_asks(tmp_path: Path) -> None:
    promtool("check", "rules", ALERTS)
    recorded = []
    for number, expr in enumerate(shown()):
        for variable, value in OF_GRAFANA.items():
            expr = expr.replace(variable, value)
        recorded.append({"record": f"shown:{number}", "expr": expr})
    asked = tmp_path / "shown.yml"
    asked.write_text(yaml.safe_dump({"groups": [{"name": "shown", "rules": recorded}]}))
    assert f"{len(recorded)} rules found" in promtool("check", "rules", asked)


def test_every_alert_fires_when_it_should_and_none_for_a_cluster_that_is_well(
    tmp_path: Path,
) -> None:
    cases = tmp_path / "cases.yml"
    text = CASES.read_text().replace("value: RULES", f"value: {len(rules())}")
    cases.write_text(
        text.replace("../../../storage_node/octad/storage_node", str(MONITORING.parent))
    )
    promtool("test", "rules", cases)


def test_every_metric_that_they_name_is_one_of_octads(cluster: DevCluster) -> None:
    there = set()
    for url in (f"{admin_of(cluster, 0)}/metrics", f"{cluster.coordinator}/metrics"):
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
        for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE):
            there |= {f"{name}_bucket"} if kind == "histogram" else {name}
    asked = " ".join([*shown(), *(rule["expr"] for rule in rules())])
    named = {name for name in NAME.findall(asked) if name != "octad_node"}
    assert named - there == set()
    assert len(named) > 20


def test_the_dashboards_panels_are_side_by_side_and_say_what_they_show() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (place["x"] + right, place["y"] + down)
            for right in range(place["w"])
            for down in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["fieldConfig"]["defaults"]["unit"]


def test_each_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description"}, rule["alert"]
