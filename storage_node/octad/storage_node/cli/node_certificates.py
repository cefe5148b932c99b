"""The certificates between nodes that the options of a node name."""

from __future__ import annotations

from pathlib import Path

from octad.client.runtime.command import CommandError
from octad.storage_node.rpc.peer_tls import TlsContexts, TlsFiles


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
