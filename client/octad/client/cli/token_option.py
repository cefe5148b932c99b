"""Chooses a verb's service token: a named one, or that of an `octad dev`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from octad.client.cli.coordinator_option import dev_join_token
from octad.client.runtime.command import CommandError

if TYPE_CHECKING:
    from octad.client.cluster.service_token import ServiceToken


def add_token_option(parser: argparse.ArgumentParser) -> None:
    """`--token`."""
    parser.add_argument(
        "--token",
        metavar="TOKEN",
        default=os.environ.get("OCTAD_SERVICE_TOKEN") or os.environ.get("OCTAD_JOIN_TOKEN"),
        help="a service token or the join token (OCTAD_SERVICE_TOKEN, OCTAD_JOIN_TOKEN)",
    )


def asked_token(arguments: argparse.Namespace) -> ServiceToken:
    """The token to use; raises CommandError."""
    from octad.client.cluster.join_token import BadJoinToken
    from octad.client.cluster.service_token import decode_service_token

    arguments.data = Path(arguments.data)
    text = arguments.token or dev_join_token(arguments)
    if text is None:
        raise CommandError(
            "this needs the cluster's service token or join token",
            "give --token, or set OCTAD_SERVICE_TOKEN",
            2,
        )
    try:
        return decode_service_token(text)
    except BadJoinToken as error:
        raise CommandError(str(error), "give --token as it was printed", 2) from error
