"""`octad lock`: run something in one place at a time, and see who does.

    octad lock run NAME [OPTION...] -- COMMAND...    once it is this one's turn
    octad lock ls [NAME]

Exit codes: that of COMMAND; 0 listed, 1 refused, no turn in time, lost, or no coordinator answers,
2 not understood.
"""

from __future__ import annotations

import argparse
import socket
import sys

from octad.client.cli.coordinator_option import add_coordinator_options, coordinator_url
from octad.client.cli.token_option import add_token_option, asked_token

_TTL_S_DEFAULT = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="{run,ls}")
    run = actions.add_parser("run", help="run COMMAND once the lock is this process's")
    run.add_argument("name", metavar="NAME", help="the lock")
    run.add_argument(
        "--ttl",
        metavar="SECONDS",
        type=float,
        default=_TTL_S_DEFAULT,
        help="how long after its last sign of life the next one has the lock (default: 10)",
    )
    run.add_argument(
        "--wait", metavar="SECONDS", type=float, help="give up after so long (default: never)"
    )
    run.add_argument(
        "--value", default=socket.gethostname(), help="who this is, for others (default: the host)"
    )
    add_token_option(run)
    add_coordinator_options(run)
    run.add_argument(
        "command",
        metavar="COMMAND",
        nargs="+",
        help="behind --; it gets OCTAD_FENCING_TOKEN, and is ended when the lock may be another's",
    )
    listing = actions.add_parser("ls", help="list locks and their holders")
    listing.add_argument("name", metavar="NAME", nargs="?", help="this lock only")
    listing.add_argument("--json", action="store_true", help="print one JSON document")
    add_coordinator_options(listing)


def run(arguments: argparse.Namespace) -> int:
    if arguments.action == "ls":
        return _list(arguments)
    from octad.client.cli.coordination.lock_run import Asked, run_locked

    return run_locked(
        Asked(
            name=arguments.name,
            value=arguments.value,
            ttl_s=arguments.ttl,
            wait_s=arguments.wait,
            coordinator=coordinator_url(arguments),
            token=asked_token(arguments),
            command=tuple(arguments.command),
        )
    )


def _list(arguments: argparse.Namespace) -> int:
    from octad.client.cli.status_table import columns
    from octad.client.cluster.coordinator_reads import read_document, read_json
    from octad.client.cluster.view_age import shown_old_view
    from octad.client.membership.lock_records import LOCKS_PATH, LocksDocument

    url = coordinator_url(arguments)
    path = LOCKS_PATH if arguments.name is None else f"{LOCKS_PATH}/{arguments.name}"
    if arguments.json:
        sys.stdout.write(read_json(url, path).decode() + "\n")
        return 0
    document = read_document(url, path, LocksDocument)
    rows = [
        (each.lock, each.holder.value or "-", str(each.holder.token), str(each.waiting))
        for each in document.locks
    ]
    lines = (
        columns([("LOCK", "HOLDER", "TOKEN", "WAITING"), *rows]) if rows else ["no one holds it"]
    )
    if arguments.name is None and not rows:
        lines = ["no lock is held"]
    if (warning := shown_old_view(document.age_s)) is not None:
        lines.append(warning)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0
