"""`octad sharding`: compare ways of sharding on your own numbers, and simulate years of a cluster.

Cheap to import: numpy and matplotlib, of the `study` extra, are loaded by `run` only.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys

from octad.sharding.study.rivals.bad_input import BadInput

NEEDED = ("numpy", "matplotlib")
BAD_INPUT_EXIT_CODE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs and their options."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    compare = verbs.add_parser("compare", help="octad's shard map beside its rivals")
    _add_compare(compare)
    simulate = verbs.add_parser("simulate", help="years of growth, failures and repairs")
    _add_simulate(simulate)


def run(arguments: argparse.Namespace) -> int:
    """Run the verb; returns 2 for bad input, with one line that says what to do."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"octad: {' and '.join(missing)} missing; run: pip install 'octad[study]'",
            file=sys.stderr,
        )
        return BAD_INPUT_EXIT_CODE
    try:
        if arguments.verb == "compare":
            from octad.sharding.study.compare import compare

            compare(arguments)
        else:
            from octad.sharding.study.simulate import simulate

            simulate(arguments)
    except BadInput as error:
        print(f"octad: {error.what}; {error.fix}", file=sys.stderr)
        return BAD_INPUT_EXIT_CODE
    return 0


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nodes", default="4,5,8,9,16,64", help="cluster sizes (%(default)s)")
    parser.add_argument("--replicas", default="3", help="copies of each key (%(default)s)")
    parser.add_argument("--keys", default="1e5", help="how many made-up keys (%(default)s)")
    parser.add_argument(
        "--steps",
        default="+1,x2,-1,drain",
        help="+k nodes join, xk as many nodes, -k nodes are lost, drain (%(default)s)",
    )
    parser.add_argument("--weights", default="1", help="weights, dealt out in turn: 1,1,2")
    parser.add_argument("--zones", default="", help="a number of zones, or names: a,b,c")
    parser.add_argument("--trace", metavar="FILE", help="real objects: a line `size<TAB>key` each")
    parser.add_argument("--schemes", default="", help="which to compare: map,ring-128,… (most)")
    parser.add_argument("--node-tb", default="10", help="TB on an average node (%(default)s)")
    parser.add_argument(
        "--bandwidth", default="100", help="MB/s a node may spend on moving (%(default)s)"
    )
    parser.add_argument("--price", default="0.01", help="of moving a GB (%(default)s)")
    parser.add_argument(
        "--growth", default="30", help="percent a year, of the growth figure (%(default)s)"
    )
    parser.add_argument("--output", metavar="DIR", help="write CSV, JSON, HTML, SVG and PNG there")


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nodes", default="9", help="nodes at the start (%(default)s)")
    parser.add_argument("--replicas", default="3", help="copies of each shard (%(default)s)")
    parser.add_argument("--years", default="10", help="how long (%(default)s)")
    parser.add_argument("--growth", default="30", help="percent a year (%(default)s)")
    parser.add_argument("--afr", default="4", help="percent of nodes lost a year (%(default)s)")
    parser.add_argument(
        "--repair-minutes", default="60", help="from a loss to full strength (%(default)s)"
    )
    parser.add_argument(
        "--scatter", default="12", help="partners of a node: few sets or fast repair (%(default)s)"
    )
    parser.add_argument(
        "--power-cuts", default="0.5", help="a year; each kills some nodes for good (%(default)s)"
    )
    parser.add_argument(
        "--power-cut-kills",
        default="1",
        help="percent of nodes that do not come back (%(default)s)",
    )
    parser.add_argument("--node-tb", default="10", help="TB on an average node (%(default)s)")
    parser.add_argument("--seed", default="1", help="of the random choices (%(default)s)")
    parser.add_argument("--output", metavar="DIR", help="write CSV, JSON, HTML, SVG and PNG there")
