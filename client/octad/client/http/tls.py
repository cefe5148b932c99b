"""TLS for both faces: whom to trust, and what a failed handshake means."""

from __future__ import annotations

import ssl
from functools import lru_cache

from octad.client.http.transport import Address, CannotConnect, NotHttp

_PLAIN_REASONS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"})


@lru_cache(16)
def client_context(authority_file: str) -> ssl.SSLContext:
    """Trusts the certificates in `authority_file`; "": those that the system trusts."""
    context = ssl.create_default_context(cafile=authority_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def failed_handshake(address: Address, error: OSError) -> CannotConnect | NotHttp:
    """What `error` means to whoever wanted to reach `address`."""
    if isinstance(error, ssl.SSLError) and is_plain(error):
        return NotHttp("the port does not speak TLS", sent=False)
    if isinstance(error, ssl.SSLCertVerificationError):
        return CannotConnect(not_trusted(error, "authority_file= or AWS_CA_BUNDLE"))
    return CannotConnect(f"the TLS handshake failed: {error}")


def is_plain(error: ssl.SSLError) -> bool:
    """Whether what answers speaks no TLS."""
    return error.reason in _PLAIN_REASONS


def not_trusted(error: ssl.SSLCertVerificationError, option: str) -> str:
    """`option` is what names an authority."""
    return (
        f"its certificate is not trusted ({error.verify_message}): name the file of its "
        f"authority with {option}"
    )
