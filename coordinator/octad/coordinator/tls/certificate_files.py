"""A listener's certificate as options name it, and its renewal by SIGHUP."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

from octad.client.runtime.command import CommandError
from octad.coordinator.tls.certificate import Certificate

log = logging.getLogger(__name__)


def certificate_of(
    certificate: Path | None, key: Path | None, whose: str, prefix: str
) -> Certificate | None:
    """Loads what `--PREFIX-cert` and `--PREFIX-key` name, for `whose` TLS; raises CommandError."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise CommandError(
            f"TLS for {whose} needs a certificate and its key",
            f"give --{prefix}-cert and --{prefix}-key, or neither",
            2,
        )
    try:
        return Certificate(certificate, key)
    except (OSError, ValueError) as error:
        raise CommandError(
            f"TLS for {whose} cannot use {certificate} and {key}: {error}",
            "give PEM files: a certificate with what leads to its authority, and its key without"
            " a password",
            2,
        ) from error


def reload_on_hangup(*certificates: Certificate) -> None:
    """On SIGHUP, reload the files for new connections, if they are valid."""

    def reload() -> None:
        for certificate in certificates:
            try:
                certificate.reload()
            except (OSError, ValueError) as error:
                log.error("%s is not used, what was read before stays: %s", certificate, error)
            else:
                log.info("%s is used from now on, until %s", certificate, certificate.not_after)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
