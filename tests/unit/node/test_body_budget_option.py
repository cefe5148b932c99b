"""`--body-budget`: how much memory a node has for what clients send."""

from __future__ import annotations

import pytest
from tests.unit.node.test_node_tls_options import config_of

from octad.client.cli.command_line import main
from octad.client.runtime.command import CommandError
from octad.sharding.limits import MIB
from octad.storage_node.cli.node_command import BODY_BUDGET_BYTES


def test_it_is_256_mib_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCTAD_BODY_BUDGET", raising=False)
    assert config_of(monkeypatch).body_budget_bytes == BODY_BUDGET_BYTES == 256 * MIB
    assert config_of(monkeypatch, "--body-budget", "64").body_budget_bytes == 64 * MIB
    monkeypatch.setenv("OCTAD_BODY_BUDGET", "32")
    assert config_of(monkeypatch).body_budget_bytes == 32 * MIB


def test_too_little_is_refused_and_it_is_said_how_much_is_enough(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CommandError, match="with 15 MiB of memory"):
        config_of(monkeypatch, "--body-budget", "15")
    assert main(["dev", "--body-budget", "0"]) == 2
    assert "give --body-budget at least 16" in capsys.readouterr().err
