"""The certificate that a listener shows: read at the start, and again when asked to.

A connection keeps what it began with. A pair that is no good changes nothing.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509


class Certificate:
    """`certificate`: PEM, with what leads to the authority; `key`: its key, without a password.

    Raises OSError or ValueError where the two cannot be used.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate, self._key = certificate, key
        self.context = self._read()

    def reload(self) -> None:
        """Read both files again; raises as the constructor does, and then keeps the old ones."""
        self.context = self._read()

    def __str__(self) -> str:
        return f"the certificate in {self._certificate} with the key in {self._key}"

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION  # It costs us more than the client.
        context.set_alpn_protocols(["http/1.1"])
        # A key that needs a password is an error, not a question on the terminal.
        context.load_cert_chain(self._certificate, self._key, password="")
        self.not_after = _not_after(self._certificate)
        return context


def _not_after(certificate: Path) -> datetime:
    """When the first certificate of the file ends: the one that is shown."""
    shown = x509.load_pem_x509_certificate(certificate.read_bytes())
    return shown.not_valid_after_utc.astimezone(UTC)
