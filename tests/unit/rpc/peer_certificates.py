"""Certificates for nodes, made anew: an authority, and what it signs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from octad.storage_node.rpc.peer_tls import TlsContexts, TlsFiles


class Authority:
    """Signs certificates into files of `directory`."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = named(name)
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        certificate = (
            self._builder(self._subject, self._key)
            .add_extension(constraints, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def files_for(self, node: str, *, days: int = 1) -> TlsFiles:
        """A certificate that ends in so many days, or has ended."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._builder(named(node), key, days).sign(self._key, hashes.SHA256())
        certificate_file = self._directory / f"{self._name}-{node}.pem"
        key_file = self._directory / f"{self._name}-{node}.key"
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return TlsFiles(certificate_file, key_file, self.file)

    def contexts_for(self, node: str, *, days: int = 1) -> TlsContexts:
        return TlsContexts(self.files_for(node, days=days))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int = 1
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return x509.CertificateBuilder(
            issuer_name=self._subject,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(days=3),
            not_valid_after=now + timedelta(days=days),
        )


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
