"""`octad sharding compare`: reads the arguments, runs the comparison, prints and writes it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from octad.sharding.study.model import progress
from octad.sharding.study.model.cluster_spec import (
    REPLICAS_STUDIED,
    ClusterSpec,
    check_zones_reached,
    parse_node_counts,
    parse_steps,
    parse_weights,
    parse_zones,
)
from octad.sharding.study.model.comparison import Comparison, Measured, Prices
from octad.sharding.study.model.growth_costs import GrowthCosts, growth_costs
from octad.sharding.study.model.numbers import number, output_directory, whole
from octad.sharding.study.model.trace import read_trace, synthetic
from octad.sharding.study.report.html_page import html_page
from octad.sharding.study.report.plots import comparison_figures, growth_figure, saved
from octad.sharding.study.report.tables import as_csv, as_json, movement_tables, property_table
from octad.sharding.study.rivals.all_schemes import OURS, chosen_schemes
from octad.sharding.study.rivals.bad_input import BadInput
from octad.sharding.study.rivals.scheme import Scheme

GROWTH_YEARS = 10
KEYS_MAX = 10_000_000


def compare(arguments: argparse.Namespace) -> None:
    """Everything is checked first, so that bad input writes nothing."""
    replicas = whole(arguments.replicas, "--replicas", *REPLICAS_STUDIED)
    counts = parse_node_counts(arguments.nodes, replicas)
    steps = parse_steps(arguments.steps)
    spec = ClusterSpec(parse_weights(arguments.weights), parse_zones(arguments.zones, replicas))
    check_zones_reached(spec, counts, replicas)
    schemes = chosen_schemes(arguments.schemes)
    prices = Prices(
        number(arguments.node_tb, "--node-tb", 0.001, 1e6),
        number(arguments.bandwidth, "--bandwidth", 0.001, 1e9),
        number(arguments.price, "--price", 0, 1e6),
    )
    growth = number(arguments.growth, "--growth", 0.1, 200) / 100
    output = output_directory(arguments.output)
    keys = whole(arguments.keys, "--keys", 1, KEYS_MAX)
    objects = read_trace(Path(arguments.trace)) if arguments.trace else synthetic(keys)
    rows = Comparison(spec, objects, replicas, prices, progress.show).run(schemes, counts, steps)
    if not rows:
        raise BadInput(
            "no step is possible: too few nodes or zones are left after each",
            "give larger --nodes or other --steps",
        )
    histories = [
        growth_costs(
            policy, nodes=counts[0], growth=growth, years=GROWTH_YEARS, node_tb=prices.node_tb
        )
        for policy in ("double", "by one")
    ]
    print(movement_tables(rows), property_table(rows), growth_text(histories, prices), sep="\n\n")
    if output is not None:
        write(output, rows, schemes, histories, growth)
        print(f"\nwritten to {output}: compare.csv, .json and .html, and the figures")


def growth_text(histories: Sequence[GrowthCosts], prices: Prices) -> str:
    """The trade-off in two lines."""
    lines = [f"{GROWTH_YEARS} years of growth:"]
    for history in histories:
        lines.append(
            f"  {history.policy:7} {history.nodes[0]} → {history.nodes[-1]} nodes,"
            f" {history.copied_tb[-1]:.0f} TB copied"
            f" ({history.copied_tb[-1] * 1000 * prices.price_per_gb:.0f} to pay),"
            f" at most {history.largest_copy:.0%} of the data at once,"
            f" {history.idle_node_months[-1]:.0f} node-months idle"
        )
    return "\n".join(lines)


def write(
    directory: Path,
    rows: Sequence[Measured],
    schemes: Sequence[Scheme],
    histories: Sequence[GrowthCosts],
    growth: float,
) -> None:
    """Write all files into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    figures = comparison_figures(rows)
    figures["growth"] = growth_figure(histories, growth)
    (directory / "compare.csv").write_text(as_csv(rows))
    (directory / "compare.json").write_text(as_json(rows, schemes))
    for name, figure in figures.items():
        saved(figure, directory / f"{name}.svg", "svg")
        saved(figure, directory / f"{name}.png", "png")
    cells = [
        [f"{v:.4g}" if isinstance(v, float) else str(v) for v in asdict(r).values()] for r in rows
    ]
    sources = [["scheme", "what it is", "source", "weights", "zones"]]
    sources += [
        [s.name, s.title, s.source, "yes" if s.weights else "no", "yes" if s.zones else "no"]
        for s in schemes
    ]
    tables = {"Schemes": sources, "All figures": [[f.name for f in fields(Measured)], *cells]}
    text = "Shares are of all replica bytes; a line in a figure is the least that balance allows."
    page = html_page("Ways of sharding compared", [text], figures, tables, OURS)
    (directory / "compare.html").write_text(page)
