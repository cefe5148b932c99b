"""`octad doctor`: what is wrong with the cluster and what to do about it, the most urgent first.

Exit codes: 0 nothing, 1 something to do (or no coordinator answers), 2 data is unavailable or at
risk. `--json` prints the coordinator's document as it came.
"""

from __future__ import annotations

import argparse
import sys

from octad.client.cli.coordinator_option import add_coordinator_options, coordinator_url


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_coordinator_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    url = coordinator_url(arguments)
    import msgspec

    from octad.client.cluster.coordinator_reads import not_a_coordinator, read_json
    from octad.client.cluster.doctor_document import (
        DOCTOR_PATH,
        DoctorDocument,
        doctor_text,
        exit_code,
    )

    body = read_json(url, DOCTOR_PATH)
    try:
        document = msgspec.json.decode(body, type=DoctorDocument)
    except msgspec.DecodeError as error:
        raise not_a_coordinator(url, str(error)) from error
    sys.stdout.write(body.decode() + "\n" if arguments.json else doctor_text(document))
    return exit_code(document)
