"""Where a verb of the log finds the nodes, and the keys that it signs with."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from octad.client.cli.coordinator_option import (
    add_coordinator_options,
    coordinator_url,
    dev_access_key,
    dev_authority,
)
from octad.client.runtime.command import CommandError

if TYPE_CHECKING:
    from octad.client.log.topics_client import TopicsClient

_ENDPOINT, _ACCESS_KEY, _SECRET_KEY = "OCTAD_LOG_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"


def add_log_options(parser: argparse.ArgumentParser) -> None:
    """`--endpoint`, and where else to look for the nodes."""
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        default=os.environ.get(_ENDPOINT),
        help=f"where a node serves the log, or several (default: {_ENDPOINT}, else as the "
        "coordinator says)",
    )
    add_coordinator_options(parser)


@contextmanager
def connected(arguments: argparse.Namespace) -> Iterator[TopicsClient]:
    """Raises CommandError also for what goes wrong inside."""
    from octad.client.calls.caller import Caller
    from octad.client.calls.settings import DEADLINE_S, settings_of
    from octad.client.errors import OctadError
    from octad.client.http.blocking import BlockingRuntime
    from octad.client.log.topics_client import TopicsClient

    try:
        access_key, secret_key = _credentials(arguments)
        settings = settings_of(
            arguments.endpoint or _endpoints(arguments),
            access_key,
            secret_key,
            coordinator=None,
            region=None,
            authority_file=os.environ.get("AWS_CA_BUNDLE") or _dev_authority(arguments),
            deadline_s=DEADLINE_S,
            hedge=False,
            environment={},
        )
        caller = Caller(settings, BlockingRuntime())
        try:
            yield TopicsClient(caller)
        finally:
            caller.close()
    except OctadError as error:
        what, _, _ = str(error).rpartition(f"; {error.fix}")
        raise CommandError(what or str(error), error.fix) from error


def _endpoints(arguments: argparse.Namespace) -> str:
    from octad.client.cluster.coordinator_reads import not_a_coordinator, read_json
    from octad.client.cluster.status_document import STATUS_PATH, BadStatus, decode_status

    url = coordinator_url(arguments)
    try:
        nodes = decode_status(read_json(url, STATUS_PATH)).nodes
    except BadStatus as error:
        raise not_a_coordinator(url, str(error)) from error
    found = [
        f"{'https' if each.log_tls else 'http'}://{each.log_address}"
        for each in nodes
        if each.live and each.log_address
    ]
    if not found:
        raise CommandError(
            "no node says where it serves the log", "see whether one is there: octad status"
        )
    return ",".join(found)


def _dev_authority(arguments: argparse.Namespace) -> str | None:
    """Who signed the certificates of the `octad dev` in `--data`, if that is what is asked."""
    return dev_authority(arguments) if arguments.coordinator is None else None


def _credentials(arguments: argparse.Namespace) -> tuple[str, str]:
    access_key, secret_key = os.environ.get(_ACCESS_KEY), os.environ.get(_SECRET_KEY)
    if access_key and secret_key:
        return access_key, secret_key
    found = dev_access_key(arguments) if arguments.coordinator is None else None
    if found is None:
        raise CommandError(
            "this needs an access key", f"set {_ACCESS_KEY} and {_SECRET_KEY} to one", 2
        )
    return found
