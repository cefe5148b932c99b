"""The certificates that the options of a node name: for the other nodes, and for S3 clients."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

from octad.client.runtime.command import CommandError
from octad.storage_node.rpc.peer_tls import TlsContexts, TlsFiles
from octad.storage_node.s3.http.certificate import Certificate

log = logging.getLogger(__name__)


def peer_contexts(
    certificate: Path | None, key: Path | None, authority: Path | None
) -> TlsContexts | None:
    """Loads `--tls-cert`, `--tls-key` and `--tls-ca`; raises CommandError."""
    if certificate is None and key is None and authority is None:
        return None
    if certificate is None or key is None or authority is None:
        raise CommandError(
            "TLS between nodes needs a certificate, its key and the authority that signed it",
            "give --tls-cert, --tls-key and --tls-ca, or none of them",
            2,
        )
    try:
        return TlsContexts(TlsFiles(certificate, key, authority))
    except OSError as error:
        raise CommandError(
            f"TLS between nodes cannot use {certificate}, {key} and {authority}: {error}",
            "give PEM files: a certificate, its key without a password, the authority",
            2,
        ) from error


def s3_certificate(certificate: Path | None, key: Path | None) -> Certificate | None:
    """Loads `--s3-tls-cert` and `--s3-tls-key`; raises CommandError."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise CommandError(
            "TLS for S3 needs a certificate and its key",
            "give --s3-tls-cert and --s3-tls-key, or neither",
            2,
        )
    try:
        return Certificate(certificate, key)
    except (OSError, ValueError) as error:
        raise CommandError(
            f"TLS for S3 cannot use {certificate} and {key}: {error}",
            "give PEM files: a certificate with what leads to its authority, and its key without"
            " a password",
            2,
        ) from error


def reload_on_hangup(certificate: Certificate) -> None:
    """On SIGHUP, reload the files for new connections, if they are valid."""

    def reload() -> None:
        try:
            certificate.reload()
        except (OSError, ValueError) as error:
            log.error("%s is not used, what was read before stays: %s", certificate, error)
        else:
            log.info("%s is used from now on, until %s", certificate, certificate.not_after)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
