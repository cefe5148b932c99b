"""Whom the verbs for objects ask: an option, else the environment, else an octad dev."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from octad.client.cli.access.connection import (
    Setting,
    add_connection_options,
    connected,
    settings_found,
)
from octad.client.runtime.command import CommandError

KEYS = {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    """The data directory of a running `octad dev`."""
    nodes = [{"id": 1, "s3": "127.0.0.1:9000"}, {"id": 2, "s3": "127.0.0.1:9001"}]
    running = {"coordinator": "http://127.0.0.1:9400", "authority": "", "nodes": nodes}
    (tmp_path / "dev.json").write_text(json.dumps(running))
    (tmp_path / "cluster.json").write_text(json.dumps({"access_key": "d", "secret_key": "ds"}))
    return tmp_path


def parsed(*words: str | Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_connection_options(parser)
    return parser.parse_args(list(map(str, words)))


def found(environment: dict[str, str], *words: str | Path) -> dict[str, Setting]:
    settings = settings_found(parsed(*words), environment)
    return {name: setting for name, setting in settings.items() if setting.value}


def test_an_octad_dev_that_was_named_is_asked_with_its_own_keys(dev: Path) -> None:
    environment = {**KEYS, "AWS_ENDPOINT_URL": "http://other:1", "OCTAD_COORDINATOR": "http://o:2"}
    origin = f"octad dev in {dev}"
    assert found(environment, "--data", dev) == {
        "endpoint": ("http://127.0.0.1:9000,http://127.0.0.1:9001", origin),
        "coordinator": ("http://127.0.0.1:9400", origin),
        "access_key": ("d", origin),
        "secret_key": ("ds", origin),
        "region": ("us-east-1", "default"),
    }


def test_an_option_overrules_the_environment_which_overrules_an_octad_dev(
    dev: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (dev / "octad-data").mkdir()
    for name in ("dev.json", "cluster.json"):
        (dev / name).rename(dev / "octad-data" / name)
    monkeypatch.chdir(dev)
    assert found({})["coordinator"] == ("http://127.0.0.1:9400", "octad dev in octad-data")
    of_environment = {"AWS_ENDPOINT_URL": "http://e:1", "AWS_ENDPOINT_URL_S3": "http://e:3", **KEYS}
    asked = found(of_environment)
    assert asked["endpoint"] == ("http://e:3", "AWS_ENDPOINT_URL_S3")
    assert asked["access_key"] == ("mine", "AWS_ACCESS_KEY_ID")
    assert "coordinator" not in asked
    asked = found({**of_environment, "OCTAD_COORDINATOR": "http://c:1"}, "--endpoint", "http://o:1")
    assert asked["endpoint"] == ("http://o:1", "--endpoint")
    assert "coordinator" not in asked


def test_what_is_not_known_is_said_with_how_to_say_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "OCTAD_COORDINATOR", *KEYS):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CommandError, match="which cluster is not said; set AWS_ENDPOINT_URL"):
        connected(parsed())
    with pytest.raises(CommandError, match="no access key is known; set AWS_ACCESS_KEY_ID"):
        connected(parsed("--endpoint", "http://127.0.0.1:9000"))
    with pytest.raises(CommandError, match="no octad dev runs on gone; start it: octad dev"):
        connected(parsed("--data", "gone"))
