"""`octad coordinator`: a start that must fail says why in one line, and leaves the port free."""

from __future__ import annotations

import pytest

from octad.client.cli.command_line import main
from octad.client.cluster.join_token import JoinToken, encode_join_token
from octad.client.runtime.listener import listen_on

TOKEN = encode_join_token(JoinToken("1a2b3c4d", bytes(range(32))))
NOBODY = "http://root:password@127.0.0.1:1"


def free_address() -> str:
    with listen_on("127.0.0.1:0", "--listen") as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("options", "reason", "code"),
    [
        (["--join-token", TOKEN[:-1]], "not a join token, or a part of it is missing", 1),
        (["--listen", "nowhere"], "'nowhere' is not host:port; correct --listen", 2),
        (["--access-key", "octad"], "an access key without a secret key", 2),
        (["--access-key", "a/b", "--secret-key", "octad-secret"], "an access key has 3 to 128", 2),
        (["--replicas", "4"], "argument --replicas: invalid choice", 2),
        (["--etcd", "nonsense"], "not the URL of an etcd", 2),
        ([], "etcd does not answer at http://127.0.0.1:1 (", 1),
    ],
)
def test_a_start_that_must_fail_is_one_line(
    capfd: pytest.CaptureFixture[str], options: list[str], reason: str, code: int
) -> None:
    address = free_address()
    assert main(["coordinator", "--etcd", NOBODY, "--listen", address, *options]) == code
    out, error = capfd.readouterr()
    assert out == ""
    assert reason in error
    assert error.startswith("octad: ")
    assert error.count("\n") == 1
    assert "password" not in error
    listen_on(address, "--listen").close()


def test_a_port_in_use_is_noticed_before_etcd_is_asked(capfd: pytest.CaptureFixture[str]) -> None:
    with listen_on("127.0.0.1:0", "--listen") as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["coordinator", "--etcd", NOBODY, "--listen", address]) == 1
    assert f"{address} is in use; stop what listens there, or" in capfd.readouterr().err


def test_what_etcd_it_is_must_be_said(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["coordinator"]) == 2
    assert "the following arguments are required: --etcd" in capfd.readouterr().err
