"""The certificate of `octad dev --tls`, and an authority of its own to trust.

Whoever trusts the authority trusts it for these names alone: it may sign for no others, and its key
is gone once it has signed. So a renewed certificate comes with another authority.

Bytes in, bytes out: the files are `dev_directory.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIVES: Final = timedelta(days=730)  # Some systems reject certificates that live much longer.
RENEWED_BEFORE_END: Final = timedelta(days=30)
_CLOCKS_DIFFER: Final = timedelta(days=1)
_ADDRESS: Final = IPv4Address("127.0.0.1")
_AUTHORITY: Final = "octad dev, on this machine only"


@dataclass(frozen=True, slots=True)
class DevCertificate:
    """PEM. `pair` is key, certificate and authority in one, so that none of them can be missing."""

    pair: bytes
    authority: bytes


def issue(domains: Sequence[str], now: datetime) -> DevCertificate:
    """For 127.0.0.1, localhost, and each domain with the buckets under it."""
    authority_key, key = _new_key(), _new_key()
    authority = _authority(domains, authority_key, now)
    certificate = _certificate(domains, key, authority, authority_key, now)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    shown, trusted = (
        each.public_bytes(serialization.Encoding.PEM) for each in (certificate, authority)
    )
    return DevCertificate(private + shown + trusted, trusted)


def kept(pair: bytes, domains: Sequence[str], now: datetime) -> DevCertificate | None:
    """The `pair` of an earlier `issue`; None if it is damaged, not ours, or expires soon."""
    try:
        key = serialization.load_pem_private_key(pair, None)
        certificate, authority = x509.load_pem_x509_certificates(pair)
        certificate.verify_directly_issued_by(authority)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # Truncated, or not ours: there are many ways to fail.
        return None
    usable = (
        key.public_key() == certificate.public_key()
        and names == _names(domains)
        and now < certificate.not_valid_after_utc - RENEWED_BEFORE_END
    )
    if not usable:
        return None
    return DevCertificate(pair, authority.public_bytes(serialization.Encoding.PEM))


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _all(domains: Sequence[str]) -> list[str]:
    return sorted({"localhost", *domains})


def _names(domains: Sequence[str]) -> x509.SubjectAlternativeName:
    names = [name for domain in _all(domains) for name in (domain, f"*.{domain}")]
    return x509.SubjectAlternativeName(
        [x509.IPAddress(_ADDRESS), *(x509.DNSName(name) for name in names)]
    )


def _authority(
    domains: Sequence[str], key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.Certificate:
    permitted = [x509.IPAddress(IPv4Network(_ADDRESS)), *map(x509.DNSName, _all(domains))]
    name = _named(_AUTHORITY)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        _builder(name, name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )


def _certificate(
    domains: Sequence[str],
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.Certificate:
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        _builder(_named("octad dev"), authority.subject, key.public_key(), now)
        .add_extension(_names(domains), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(signer, critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - _CLOCKS_DIFFER,
        not_valid_after=now + LIVES,
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
