"""`octad node --front-door`: who reads S3 requests."""

from __future__ import annotations

import pytest
from tests.unit.node.test_node_tls_options import config_of

from octad.client.runtime.command import CommandError


def test_our_own_protocol_reads_requests_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OCTAD_FRONT_DOOR", raising=False)
    assert not config_of(monkeypatch).all_through_aiohttp
    assert config_of(monkeypatch, "--front-door", "aiohttp").all_through_aiohttp


def test_the_environment_may_say_it_and_an_option_outweighs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OCTAD_FRONT_DOOR", "aiohttp")
    assert config_of(monkeypatch).all_through_aiohttp
    assert not config_of(monkeypatch, "--front-door", "hot").all_through_aiohttp


def test_a_door_that_there_is_not_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAD_FRONT_DOOR", "back")
    with pytest.raises(CommandError, match="no front door 'back'"):
        config_of(monkeypatch)
