"""`octad checkpoint`: look at jobs' checkpoints, restore, drop, pin and collect them.

    octad checkpoint ls s3://BUCKET/PREFIX [JOB]
    octad checkpoint show s3://BUCKET/PREFIX JOB [ID]
    octad checkpoint restore s3://BUCKET/PREFIX JOB DIRECTORY [--id ID] [--before TIME]
    octad checkpoint diff s3://BUCKET/PREFIX JOB ID ID
    octad checkpoint keep s3://BUCKET/PREFIX JOB COUNT
    octad checkpoint pin s3://BUCKET/PREFIX JOB ID [--label TEXT] [--release]
    octad checkpoint gc s3://BUCKET/PREFIX [--dry-run]
    octad checkpoint audit s3://BUCKET/PREFIX

Exit codes: 0 done, 1 refused, damaged or not reachable, 2 not understood, 4 there is no such one.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from octad.client.cli.access.connection import add_connection_options

if TYPE_CHECKING:
    from octad.client.objects.client import Client

_VERBS = {
    "ls": "list jobs, or the checkpoints of one, newest first",
    "show": "show the files and the metadata of a checkpoint (the newest one)",
    "restore": "write a checkpoint's files (the newest one's) into an empty directory",
    "diff": "show what a checkpoint has that an older one has not, and the reverse",
    "keep": "drop all but the newest COUNT, savepoints and what is pinned",
    "pin": "keep a checkpoint whatever is dropped",
    "gc": "delete what no checkpoint of any job needs",
    "audit": "prove that no checkpoint lacks anything; delete nothing",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="{" + ",".join(_VERBS) + "}")
    made = {verb: verbs.add_parser(verb, help=explained) for verb, explained in _VERBS.items()}
    for verb, each in made.items():
        each.add_argument("place", metavar="s3://BUCKET/PREFIX")
        if verb not in ("ls", "gc", "audit"):
            each.add_argument("job", metavar="JOB")
    made["ls"].add_argument("job", metavar="JOB", nargs="?", default="")
    made["show"].add_argument("id", metavar="ID", nargs="?", default="")
    made["restore"].add_argument("directory", metavar="DIRECTORY")
    made["restore"].add_argument("--id", metavar="ID", default="", help="an id, or a savepoint")
    made["restore"].add_argument(
        "--before", metavar="TIME", help="the newest one of then, as in 2026-11-30T18:00:00Z"
    )
    made["diff"].add_argument("id", metavar="ID")
    made["diff"].add_argument("other", metavar="ID")
    made["keep"].add_argument("count", metavar="COUNT", type=int)
    made["pin"].add_argument("id", metavar="ID")
    made["pin"].add_argument("--label", metavar="TEXT", default="", help="why it is kept")
    made["pin"].add_argument("--release", action="store_true", help="let it be dropped again")
    made["gc"].add_argument("--dry-run", action="store_true", help="only say what would go")
    for each in made.values():
        each.add_argument("--json", action="store_true", help="print one JSON document")
        add_connection_options(each)


def run(arguments: argparse.Namespace) -> int:
    from octad.client.cli.access.connection import connected
    from octad.client.cli.access.refusals import refusals_of

    with connected(arguments) as client, refusals_of():
        return _run(client, arguments)


def _run(client: Client, arguments: argparse.Namespace) -> int:
    from octad.client.checkpoints.checkpoints import Checkpoints
    from octad.client.cli.checkpoints import changing, looking

    job = getattr(arguments, "job", "")
    # Of a collection, no job is the subject; "all" is only a name that any place would take.
    checkpoints = Checkpoints(arguments.place, job or "all", client=client)
    match arguments.verb:
        case "ls" if not job:
            return looking.list_jobs(checkpoints, arguments)
        case "ls":
            return looking.list_checkpoints(checkpoints, arguments)
        case "show":
            return looking.show(checkpoints, arguments)
        case "diff":
            return looking.diff(checkpoints, arguments)
        case "audit":
            return looking.audit(checkpoints, arguments)
        case "restore":
            return changing.restore(checkpoints, arguments)
        case "keep":
            return changing.keep(checkpoints, arguments)
        case "pin":
            return changing.pin(checkpoints, arguments)
        case _:
            return changing.collect(checkpoints, arguments)
