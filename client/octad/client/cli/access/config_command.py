"""`octad config show|check`: whom the verbs for objects ask and why, and whether that answers.

Exit codes: 0 shown, or all is well, 1 it does not answer or refuses, 2 something is not set.
"""

from __future__ import annotations

import argparse
import json
import os

from octad.client.cli.access.connection import add_connection_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="{show,check}", required=True)
    show = verbs.add_parser("show", help="print the settings; a secret is not printed")
    show.add_argument("--origin", action="store_true", help="and where each came from")
    check = verbs.add_parser("check", help="ask S3 with them, and say whether that is well")
    for verb in (show, check):
        verb.add_argument("--json", action="store_true", help="print one JSON document")
        add_connection_options(verb)


def run(arguments: argparse.Namespace) -> int:
    return _show(arguments) if arguments.verb == "show" else _check(arguments)


def _show(arguments: argparse.Namespace) -> int:
    from octad.client.cli.access.connection import SECRET_KEY, settings_found
    from octad.client.cli.status_table import columns

    found = settings_found(arguments, os.environ)
    if found[SECRET_KEY].value:
        found[SECRET_KEY] = found[SECRET_KEY]._replace(value="(not shown)")
    if arguments.json:
        print(json.dumps({name: setting._asdict() for name, setting in found.items()}))
        return 0
    rows = [(name, each.value or "-", each.origin) for name, each in found.items()]
    if not arguments.origin:
        rows = [(name, value, "") for name, value, _ in rows]
    print("\n".join(columns(rows)))
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from octad.client.cli.access.connection import ACCESS_KEY, connected, settings_found
    from octad.client.cli.access.refusals import refusals_of
    from octad.client.cli.format_units import counted

    access_key = settings_found(arguments, os.environ)[ACCESS_KEY].value
    with refusals_of(), connected(arguments) as client:
        buckets = sum(1 for _ in client.list_buckets())
        nodes = [node.address for node in client.nodes]
    if arguments.json:
        print(json.dumps({"nodes": nodes, "access_key": access_key, "buckets": buckets}))
    else:
        print(f"{', '.join(nodes)}: S3 answers, and knows access key {access_key}")
        print(f"it has {counted(buckets, 'bucket')}; see: octad ls")
    return 0
