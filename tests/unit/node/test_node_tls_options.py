"""`octad node`: TLS, between nodes or for S3, needs all of its files, and usable ones."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from tests.unit.rpc.peer_certificates import Authority

from octad.client.cluster.join_token import JoinToken, encode_join_token
from octad.client.runtime.command import CommandError
from octad.storage_node.cli import node_command, node_config, node_process
from octad.storage_node.cli.node_config import NodeOptions
from octad.storage_node.node.this_node import NodeConfig

TOKEN = encode_join_token(JoinToken("00c0ffee", bytes(32)))


def config_of(monkeypatch: pytest.MonkeyPatch, *options: str | Path) -> NodeConfig:
    """What the process behind the command would start with."""
    parser = argparse.ArgumentParser()
    node_command.add_arguments(parser)
    taken: list[NodeConfig] = []

    def run_node(read: NodeOptions) -> int:
        taken.append(node_config.config_of(read))
        return 0

    monkeypatch.setattr(node_process, "run_node", run_node)
    given = ["--data", "data", "--join-token", TOKEN, *map(str, options)]
    node_command.run(parser.parse_args(given))
    return taken[0]


def test_all_three_options_give_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = Authority(tmp_path).files_for("node")
    pair = ("--tls-cert", files.certificate, "--tls-key", files.key)
    assert config_of(monkeypatch, *pair, "--tls-ca", files.authority).tls is not None


@pytest.mark.parametrize("door", ["s3", "log"])
def test_a_door_has_a_pair_of_its_own_or_no_tls(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, door: str
) -> None:
    files = Authority(tmp_path).files_for("node")
    pair = (f"--{door}-tls-cert", files.certificate, f"--{door}-tls-key", files.key)
    config = config_of(monkeypatch, *pair)
    with_tls = {"s3": config.certificate is not None, "log": config.log_certificate is not None}
    assert with_tls == {"s3": door == "s3", "log": door == "log"}
    with pytest.raises(CommandError, match=f"--{door}-tls-key"):
        config_of(monkeypatch, *pair[:2])


def test_none_of_them_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_of(monkeypatch).tls is None


@pytest.mark.parametrize("left_out", ["--tls-cert", "--tls-key", "--tls-ca"])
def test_one_left_out_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, left_out: str
) -> None:
    files = Authority(tmp_path).files_for("node")
    options: dict[str, Path] = {
        "--tls-cert": files.certificate,
        "--tls-key": files.key,
        "--tls-ca": files.authority,
    }
    del options[left_out]
    with pytest.raises(CommandError, match="needs a certificate, its key and the authority"):
        config_of(monkeypatch, *(word for option in options.items() for word in option))


def test_a_file_that_is_not_there_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.pem"
    options = ("--tls-cert", missing, "--tls-key", missing, "--tls-ca", missing)
    with pytest.raises(CommandError, match=r"cannot use .*missing\.pem"):
        config_of(monkeypatch, *options)


def test_a_certificate_and_its_key_give_tls_for_s3(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = Authority(tmp_path).files_for("node")
    pair = ("--s3-tls-cert", files.certificate, "--s3-tls-key", files.key)
    assert config_of(monkeypatch, *pair).certificate is not None
    assert config_of(monkeypatch).certificate is None
    for option in (pair[:2], pair[2:]):
        with pytest.raises(CommandError, match="needs a certificate and its key"):
            config_of(monkeypatch, *option)


@pytest.mark.parametrize("what", ["absent", "no PEM", "another's key", "key with a password"])
def test_a_pair_that_s3_cannot_use_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    authority = Authority(tmp_path)
    files, other = authority.files_for("node"), authority.files_for("other")
    key = files.key
    if what == "absent":
        key.unlink()
    elif what == "no PEM":
        key.write_bytes(b"no PEM")
    elif what == "another's key":
        key = other.key
    else:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        secret = serialization.BestAvailableEncryption(b"secret")
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        key.write_bytes(private.private_bytes(pem, pkcs8, secret))
    with pytest.raises(CommandError, match="TLS for S3 cannot use"):
        config_of(monkeypatch, "--s3-tls-cert", files.certificate, "--s3-tls-key", key)
