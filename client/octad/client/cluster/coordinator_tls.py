"""A coordinator behind TLS: whom to trust, and words for where only one side speaks it.

Whose certificates are trusted, beside those that the system trusts, is in the file that
AWS_CA_BUNDLE names, as for S3.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterable

from octad.client.http.tls import client_context, is_plain, not_trusted
from octad.client.runtime.wrong_protocol import CODE, PLAIN_IS_SPOKEN, TLS_IS_SPOKEN

AUTHORITY_VARIABLE = "AWS_CA_BUNDLE"


def context_for(urls: Iterable[str], authority_file: str | None) -> ssl.SSLContext | None:
    """None where no URL wants TLS. Raises ValueError for a file that cannot be used."""
    if not any(url.startswith("https://") for url in urls):
        return None
    file = authority_file or os.environ.get(AUTHORITY_VARIABLE, "")
    try:
        return client_context(file)
    except OSError as error:
        raise ValueError(
            f"{file} cannot be used for the certificates of an authority: {error}"
        ) from error


def why_no_answer(error: Exception) -> str:
    """What a failure to connect or to be answered means, of aiohttp or the standard library."""
    for found in (*(getattr(error, name, None) for name in _WRAPPED), error):
        if isinstance(found, ssl.SSLCertVerificationError):
            return not_trusted(found, AUTHORITY_VARIABLE)
        if isinstance(found, ssl.SSLError) and is_plain(found):
            return PLAIN_IS_SPOKEN
    return str(error) or type(error).__name__


def says_tls_is_spoken(answer: bytes) -> bool:
    """Whether it is what plain HTTP is answered with on a port that speaks TLS."""
    if TLS_IS_SPOKEN.encode() in answer:  # Of S3, too.
        return True
    try:
        return bool(json.loads(answer)["code"] == CODE)
    except (ValueError, KeyError, TypeError):
        return False


# Where aiohttp keeps what it stumbled over; its own errors are of the same kinds, and say less.
_WRAPPED = ("certificate_error", "os_error")
