"""`octad trace`: S3 requests as they end, of all nodes or of some, for an admin.

Exit codes: 0 ended by Ctrl-C or --count, 1 no node can be watched, 2 not understood, or no admin's
key is known.
"""

from __future__ import annotations

import argparse

from octad.client.cli.coordinator_option import add_coordinator_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("nodes", metavar="NODE", nargs="*", help="as in n1 (default: every node)")
    parser.add_argument("--operation", metavar="NAME", default="", help="as in PutObject")
    parser.add_argument("--bucket", metavar="NAME", default="", help="of this bucket only")
    parser.add_argument("--key", metavar="KEY", default="", help="signed with this access key")
    parser.add_argument(
        "--status", metavar="STATUS", default="", help="as in 404 or 5xx (499: its client left)"
    )
    parser.add_argument(
        "--slower", metavar="SECONDS", type=float, default=0.0, help="that took so long or longer"
    )
    parser.add_argument(
        "--sample", metavar="SHARE", type=float, default=1.0, help="as in 0.01: one in a hundred"
    )
    parser.add_argument("--count", metavar="N", type=int, help="end after so many")
    parser.add_argument("--json", action="store_true", help="print a JSON document for each")
    add_coordinator_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from octad.client.cli.coordinator_option import coordinator_url
    from octad.client.runtime.command import EXIT_USAGE, CommandError
    from octad.client.s3.trace_document import BadFilter, TraceFilter, filter_of
    from octad.coordinator.cli.admin_client import admin_credentials
    from octad.coordinator.cli.trace.tracing import Tracing

    wanted = TraceFilter(
        arguments.operation,
        arguments.bucket,
        arguments.key,
        arguments.status,
        arguments.slower,
        arguments.sample,
    )
    try:
        filter_of({"status": wanted.status, "sample": str(wanted.sample)})
    except BadFilter as error:
        raise CommandError(str(error), "see: octad trace --help", EXIT_USAGE) from error
    credentials = admin_credentials(arguments)
    tracing = Tracing(coordinator_url(arguments), credentials, wanted, arguments.nodes)
    try:
        tracing.show(arguments.count, as_json=arguments.json)
    except KeyboardInterrupt:
        return 0
    return 0
