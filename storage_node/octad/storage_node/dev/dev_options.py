"""A user's options of `octad dev`, and the options of its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from octad.storage_node.dev.dev_directory import AUTHORITY_FILE, PAIR_FILE


@dataclass(frozen=True, slots=True)
class DevOptions:
    """The options as typed; None where not given."""

    data: Path
    nodes: int | None
    replicas: int | None
    s3_port: int
    access_key: str | None
    secret_key: str | None
    etcd: tuple[str, ...]
    fresh: bool
    tls: bool
    domains: tuple[str, ...]
    more: tuple[str, ...]  # For each `octad node`.

    @property
    def authority(self) -> Path:
        """With TLS: the certificate that clients must trust."""
        return self.data / AUTHORITY_FILE

    def node_arguments(self) -> tuple[str, ...]:
        """For each `octad node`."""
        arguments = [*self.more]
        for domain in self.domains:
            arguments += ["--s3-domain", domain]
        if self.tls:
            pair = str(self.data / PAIR_FILE)
            arguments += ["--s3-tls-cert", pair, "--s3-tls-key", pair]
            arguments += ["--log-tls-cert", pair, "--log-tls-key", pair]
        return tuple(arguments)
