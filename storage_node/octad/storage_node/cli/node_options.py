"""Parses the options of a node."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from octad.client.runtime.command import CommandError
from octad.sharding.limits import BODY_BUDGET_BYTES_MIN, MIB

DEFAULT_LISTEN = "127.0.0.1:9000"
RPC_PORT_ABOVE_S3 = 1000
ADMIN_PORT_ABOVE_S3 = 2000
LOG_PORT_ABOVE_S3 = 3000
_DOMAIN: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*", re.ASCII)
HOT, AIOHTTP = FRONT_DOORS = ("hot", "aiohttp")


def s3_domains(given: Sequence[str]) -> tuple[str, ...]:
    """Parses `--s3-domain`, longest first, so that a host matches its most specific domain.

    Raises CommandError for an invalid host name.
    """
    named = (domain.lower().removeprefix("*.") for domain in given)
    domains = tuple(sorted(named, key=len, reverse=True))
    for domain in domains:
        if _DOMAIN.fullmatch(domain) is None:
            raise CommandError(
                f"{domain!r} is no domain", "give --s3-domain a name without scheme and port", 2
            )
    return domains


def body_budget_bytes(mib: int) -> int:
    """Parses `--body-budget`; raises CommandError if it is too small."""
    if mib * MIB < BODY_BUDGET_BYTES_MIN:
        raise CommandError(
            f"a node cannot take bodies in with {mib} MiB of memory for all of them",
            f"give --body-budget at least {BODY_BUDGET_BYTES_MIN // MIB}",
            2,
        )
    return mib * MIB


def access_log(file: Path | None) -> Path | None:
    """Opens `--s3-access-log`; raises CommandError if it cannot be written."""
    if file is not None:
        try:
            file.open("ab").close()
        except OSError as error:
            raise CommandError(
                f"no access log can be written to {file}: {error.strerror}",
                "give --s3-access-log a file that the node may write, in a directory that is there",
                2,
            ) from error
    return file
