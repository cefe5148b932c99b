"""`octad status`: the cluster's status, as its coordinator reports it.

Exit codes: 0 healthy, 1 not reachable, 3 degraded or still forming. `--json` prints the
coordinator's document as it came (`docs/reference/coordinator-http.md`).
"""

from __future__ import annotations

import argparse
import sys

from octad.client.cli.coordinator_option import add_coordinator_options, coordinator_url

EXIT_DEGRADED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_coordinator_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    url = coordinator_url(arguments)
    from octad.client.cli.status_table import status_table
    from octad.client.cluster.coordinator_reads import not_a_coordinator, read_json
    from octad.client.cluster.status_document import STATUS_PATH, BadStatus, decode_status

    body = read_json(url, STATUS_PATH)
    try:
        status = decode_status(body)
    except BadStatus as error:
        raise not_a_coordinator(url, str(error)) from error
    sys.stdout.write(body.decode() + "\n" if arguments.json else status_table(status))
    return 0 if status.state == "healthy" else EXIT_DEGRADED
