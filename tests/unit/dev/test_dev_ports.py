"""The ports that `octad dev` chooses for its nodes and keeps."""

from __future__ import annotations

import random
import socket

import pytest

from octad.storage_node.dev.dev_directory import free_ports

EPHEMERAL_PORTS = 32_768  # From here on Linux gives them to outgoing connections.


def test_ports_are_different_and_no_outgoing_connection_gets_them() -> None:
    ports = free_ports(500)
    assert len(set(ports)) == 500
    assert max(ports) < EPHEMERAL_PORTS


def test_a_port_that_is_in_use_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_ports(1)[0]))
        port = taken.getsockname()[1]
        try_first(port, monkeypatch)
        assert port not in free_ports(3)


def test_no_port_is_given_twice_in_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_ports(1)[0]
    try_first(port, monkeypatch)
    assert port not in free_ports(3, [port])


def try_first(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled = random.sample
    monkeypatch.setattr(random, "sample", lambda ports, count: [port, *shuffled(ports, count)])
