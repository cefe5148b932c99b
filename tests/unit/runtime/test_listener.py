"""A port is taken first of all, or the command says why not."""

from __future__ import annotations

import socket

import pytest

from octad.client.runtime.command import CommandError
from octad.client.runtime.listener import listen_on, take_port


def test_a_port_in_use_and_a_bad_address_are_told_with_their_option() -> None:
    with listen_on("127.0.0.1:0", "--listen") as listener:
        port = listener.getsockname()[1]
        with pytest.raises(CommandError, match=rf"127\.0\.0\.1:{port} is in use; .* --listen"):
            listen_on(f"127.0.0.1:{port}", "--listen")
    for bad in ("9400", "127.0.0.1:x", "no-such-host.invalid:1"):
        with pytest.raises(CommandError, match="--listen"):
            listen_on(bad, "--listen")


def test_whoever_connects_to_a_port_that_is_only_taken_is_refused() -> None:
    with take_port("127.0.0.1:0", "--listen") as taken:
        where = taken.getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(where)
        with (
            listen_on(f"127.0.0.1:{where[1]}", "--listen"),
            pytest.raises(CommandError, match=r"is in use; .* --rpc-port"),
        ):
            take_port(f"127.0.0.1:{where[1]}", "--rpc-port")


def test_of_two_that_have_taken_a_port_one_is_told_that_it_is_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with take_port("127.0.0.1:0", "--listen") as first:
        address = f"127.0.0.1:{first.getsockname()[1]}"
        with take_port(address, "--listen") as second:
            first.listen()
            monkeypatch.setattr("octad.client.runtime.listener.take_port", lambda *_: second)
            with pytest.raises(CommandError, match=r"is in use; .* --listen"):
                listen_on(address, "--listen")
            assert second.fileno() == -1
