"""The certificate of `octad dev --tls`: kept while it is good; its authority good for no more."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from octad.storage_node.dev import dev_certificate
from octad.storage_node.dev.dev_certificate import LIVES, RENEWED_BEFORE_END, issue, kept
from octad.storage_node.dev.dev_directory import AUTHORITY_FILE, PAIR_FILE, DevDirectory

NOW = datetime.now(UTC)
DOMAINS = ("s3.localhost", "localhost")


def shake_hands(directory: Path, pair: bytes, authority: bytes, name: str) -> None:
    """As a client that trusts `authority` and wants `name`; raises where it does not believe it."""
    file = directory / "shown.pem"
    file.write_bytes(pair)
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(file)
    trusting = ssl.create_default_context(cadata=authority.decode())
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server, server_hostname=name)
    server = accepting.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server):
        with pytest.raises(ssl.SSLWantReadError):
            side.do_handshake()
    client.do_handshake()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "s3.localhost", "photos.s3.localhost"])
def test_strict_clients_believe_it_for_its_names(tmp_path: Path, name: str) -> None:
    issued = issue(DOMAINS, NOW)
    shake_hands(tmp_path, issued.pair, issued.authority, name)


@pytest.mark.parametrize("name", ["example.org", "127.0.0.2", "a.b.s3.localhost"])
def test_and_for_no_others(tmp_path: Path, name: str) -> None:
    issued = issue(DOMAINS, NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(tmp_path, issued.pair, issued.authority, name)


@pytest.mark.parametrize("name", ["example.org", "s3.localhost.example.org", "127.0.0.2"])
def test_what_its_authority_might_sign_for_others_is_not_believed(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    authority = dev_certificate._authority(DOMAINS, keys[0], NOW)
    other = x509.IPAddress(IPv4Address(name)) if name[0] == "1" else x509.DNSName(name)
    names = x509.SubjectAlternativeName([other])
    monkeypatch.setattr(dev_certificate, "_names", lambda _: names)
    forged = dev_certificate._certificate(DOMAINS, keys[1], authority, keys[0], NOW)
    pem = serialization.Encoding.PEM
    private = keys[1].private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pair = private + forged.public_bytes(pem)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        shake_hands(tmp_path, pair, authority.public_bytes(pem), name)


def test_the_authoritys_key_is_in_no_file(tmp_path: Path) -> None:
    directory = DevDirectory(tmp_path / "data", fresh=False)
    directory.keep_certificate(DOMAINS, NOW)
    directory.close()
    written = {path.name: path.read_bytes() for path in directory.path.iterdir()}
    assert written[PAIR_FILE].count(b"PRIVATE KEY-----") == 2  # One key: its begin and its end.
    key = serialization.load_pem_private_key(written[PAIR_FILE], None)
    trusted = x509.load_pem_x509_certificate(written[AUTHORITY_FILE])
    assert key.public_key() != trusted.public_key()
    assert b"PRIVATE" not in b"".join(data for name, data in written.items() if name != PAIR_FILE)
    assert (directory.path / PAIR_FILE).stat().st_mode & 0o077 == 0


def test_it_is_kept_until_it_nears_its_end_or_the_names_change() -> None:
    issued = issue(DOMAINS, NOW)
    last_day = NOW + LIVES - RENEWED_BEFORE_END
    assert kept(issued.pair, DOMAINS, last_day - timedelta(minutes=1)) == issued
    assert kept(issued.pair, DOMAINS[::-1], NOW) == issued
    assert kept(issued.pair, DOMAINS, last_day + timedelta(minutes=1)) is None
    assert kept(issued.pair, (*DOMAINS, "s3.test"), NOW) is None
    assert kept(issued.pair, DOMAINS[1:], NOW) is None


def test_what_is_incomplete_is_not_kept() -> None:
    pair, other = issue(DOMAINS, NOW).pair, issue(DOMAINS, NOW).pair
    begin = pair.index(b"-----BEGIN CERT")
    for bad in (
        b"",
        pair[:100],
        pair[:begin],
        pair[:-100],
        pair[begin:],
        other[:begin] + pair[begin:],
    ):
        assert kept(bad, DOMAINS, NOW) is None


def test_both_files_are_of_one_authority_whatever_was_lost(tmp_path: Path) -> None:
    directory = DevDirectory(tmp_path / "data", fresh=False)
    pair, authority = directory.path / PAIR_FILE, directory.path / AUTHORITY_FILE
    directory.keep_certificate(DOMAINS, NOW)
    trusted = authority.read_bytes()
    authority.unlink()
    directory.keep_certificate(DOMAINS, NOW)
    assert authority.read_bytes() == trusted
    pair.write_bytes(pair.read_bytes()[:200])
    directory.keep_certificate(DOMAINS, NOW)
    assert authority.read_bytes() != trusted
    shake_hands(tmp_path, pair.read_bytes(), authority.read_bytes(), "localhost")
    directory.close()
