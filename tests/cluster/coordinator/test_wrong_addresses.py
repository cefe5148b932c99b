"""What is given in the wrong place is called by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cluster.coordinator.coordinator_site import (
    OCTAD,
    WAIT_S,
    Start,
    forget_clusters,
    store_of,
)
from tests.cluster.store.etcd_process import EtcdMember
from tests.harness.process_tree import ProcessTree

from octad.client.cluster.join_token import JoinToken, decode_join_token, encode_join_token
from octad.client.cluster.service_records import ServiceInstance
from octad.client.cluster.service_token import encode_service_token, service_token
from octad.client.membership import CoordinatorsUnreachable, open_session

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]

TOKEN = JoinToken("5c5c5c5c", bytes(range(32)))
JOIN = encode_join_token(TOKEN)
WEB = ServiceInstance(service="web", instance="a", address="10.0.0.5:80")


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "doctor",
        "service ls",
        "watch",
        "service register web --addr 10.0.0.5:80 --token " + JOIN,
        "node ls",
        "node drain n1 --join-token " + JOIN,
    ],
)
def test_etcd_in_the_place_of_a_coordinator_is_named(
    etcd: EtcdMember, tmp_path: Path, command: str
) -> None:
    said = failed(tmp_path, *command.split(), "--coordinator", etcd.url)
    assert "is etcd, not a coordinator" in said
    assert said.count("\n") == 1


def test_a_service_token_in_the_place_of_the_join_token_is_named(tmp_path: Path) -> None:
    token = encode_service_token(service_token(TOKEN))
    said = failed(tmp_path, "node", "--data", tmp_path / "n1", "--join-token", token)
    assert said.startswith("octad: this is a service token, with which services register")
    assert "octad1-…" in said
    assert said.count("\n") == 1


async def test_a_change_while_etcd_is_silent_is_told_that_it_is_the_store(
    etcd: EtcdMember, start: Start
) -> None:
    coordinator = start()
    token = decode_join_token(coordinator.printed("join token"))
    try:
        async with open_session(coordinator.url, service_token(token)) as session:
            await session.register(WEB)
            etcd.freeze()
            with pytest.raises(CoordinatorsUnreachable, match="configuration store has not"):
                await session.withdraw("web", "a")
            etcd.thaw()
    finally:
        etcd.thaw()
        async with store_of(etcd, token) as store:
            await forget_clusters(store)


def failed(directory: Path, *words: str | Path) -> str:
    """What a command says that must fail."""
    tree = ProcessTree([*OCTAD, *words], directory / "output").start()
    try:
        assert tree.wait(WAIT_S) in (1, 2), tree.said()
    finally:
        tree.kill()
    return tree.said()
