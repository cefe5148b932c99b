"""An etcd that asks for a password, behind TLS."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.cluster.store.etcd_process import EtcdMember
from tests.unit.store.store_site import put

from octad.chaos.cluster.free_ports import free_port
from octad.coordinator.store.etcd import EtcdStore
from octad.coordinator.store.etcd_connection import rpc
from octad.coordinator.store.interface import Revision, StoreUnavailable
from octad.coordinator.store.watching import watching

pytestmark = [pytest.mark.cluster, pytest.mark.etcd]

PASSWORD = "p@ss:word/"
PASSWORD_IN_URL = "p%40ss%3Aword%2F"


def _make_certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed one for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "etcd of a test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = directory / "cert.pem", directory / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file


def _demand_passwords(member: EtcdMember, cert_file: Path) -> None:
    credentials = grpc.ssl_channel_credentials(cert_file.read_bytes())
    with grpc.secure_channel(member.url.removeprefix("https://"), credentials) as channel:
        auth: Any = rpc.AuthStub(channel)
        auth.UserAdd(rpc.AuthUserAddRequest(name="root", password=PASSWORD))
        auth.RoleAdd(rpc.AuthRoleAddRequest(name="root"))
        auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user="root", role="root"))
        auth.AuthEnable(rpc.AuthEnableRequest())


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("login")


@pytest.fixture(scope="module")
def member(directory: Path) -> Iterator[EtcdMember]:
    cert_file, key_file = _make_certificate(directory)
    port = free_port(range(2))
    member = EtcdMember(
        "m0",
        (port, port + 1),
        f"m0=http://127.0.0.1:{port + 1}",
        directory,
        [f"--cert-file={cert_file}", f"--key-file={key_file}"],
        scheme="https",
    )
    member.start()
    try:
        member.wait_until_ready()
        _demand_passwords(member, cert_file)
        yield member
    finally:
        member.kill()


async def test_a_password_in_the_url_opens_an_etcd_behind_tls_also_after_its_restart(
    member: EtcdMember, directory: Path
) -> None:
    ca_file = str(directory / "cert.pem")
    url = member.url.replace("https://", f"https://root:{PASSWORD_IN_URL}@")
    store = EtcdStore([url], ca_file=ca_file)
    revision = await put(store, "a/1")
    await store.keep_alive(await store.grant_lease(60))
    async with watching(store, "a/", Revision(revision - 1)) as batches:
        assert (await anext(aiter(batches))).revision == revision
    member.kill()
    member.start()
    member.wait_until_ready()
    assert await store.get("a/1") is not None  # The old token died with the server.
    assert await put(store, "a/2") == revision + 1
    await store.close()


async def test_a_wrong_password_a_missing_one_and_a_stranger_are_told(
    member: EtcdMember, directory: Path
) -> None:
    ca_file = str(directory / "cert.pem")
    for url, ca, complaint in (
        (member.url.replace("https://", "https://root:wrong@"), ca_file, "password"),
        (member.url, ca_file, "user name is empty"),
        (member.url, None, "etcd at"),
        (member.url, str(directory / "no such file"), "TLS files"),
    ):
        store = EtcdStore([url], ca_file=ca)
        with pytest.raises(StoreUnavailable, match=complaint):
            await store.get("a/1")
        with pytest.raises(StoreUnavailable, match=complaint):
            await put(store, "a/1")
        await store.close()
