"""`octad sharding simulate`: reads the arguments, runs the years, prints and writes them."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from matplotlib.figure import Figure

from octad.sharding.study.model import progress
from octad.sharding.study.model.cluster_spec import REPLICAS_STUDIED
from octad.sharding.study.model.durability import (
    copyset_count,
    loss_probability,
    loss_when_killed,
    loss_without_repair,
    nines,
    repair_hours_for,
    yearly_loss_for,
)
from octad.sharding.study.model.failure_simulation import simulated_loss
from octad.sharding.study.model.lifetime import NODES_MAX, Life, Year, live
from octad.sharding.study.model.numbers import number, output_directory, whole
from octad.sharding.study.report.html_page import html_page
from octad.sharding.study.report.plots import lines, saved
from octad.sharding.study.report.tables import aligned
from octad.sharding.study.rivals.bad_input import BadInput

ELEVEN_NINES = 11.0
# Rates at which losses are frequent enough to count: (replicas, AFR, repair in hours, years).
CHECKS = ((2, 0.9, 200.0, 1.0), (3, 0.9, 400.0, 1.0), (3, 0.5, 1500.0, 3.0))
CHECK_TRIALS = 200_000


def simulate(arguments: argparse.Namespace) -> None:
    """Everything is checked first, so that bad input writes nothing."""
    life = parsed(arguments)
    output = output_directory(arguments.output)
    years = live(life, progress.show)
    parts = [years_table(years), talk_text(), repair_text(life), checks_table(life.seed)]
    parts.append(copyset_table())
    print("\n\n".join(parts))
    if output is not None:
        write(output, life, years, parts)
        print(f"\nwritten to {output}: simulate.csv, .json and .html, and the figures")


def parsed(arguments: argparse.Namespace) -> Life:
    """The arguments as numbers; raises BadInput."""
    replicas = whole(arguments.replicas, "--replicas", *REPLICAS_STUDIED)
    nodes = whole(arguments.nodes, "--nodes", 0, NODES_MAX)
    if nodes < replicas:
        raise BadInput(
            f"{nodes} nodes cannot hold {replicas} replicas on different nodes",
            f"give at least {replicas} --nodes, or fewer --replicas",
        )
    return Life(
        nodes=nodes,
        replicas=replicas,
        years=whole(arguments.years, "--years", 1, 50),
        growth=number(arguments.growth, "--growth", 0, 200) / 100,
        afr=number(arguments.afr, "--afr", 0.01, 99) / 100,
        repair_hours=number(arguments.repair_minutes, "--repair-minutes", 0.01, 525_600) / 60,
        scatter_width=whole(arguments.scatter, "--scatter", 1, NODES_MAX),
        power_cuts=number(arguments.power_cuts, "--power-cuts", 0, 100),
        power_cut_kills=number(arguments.power_cut_kills, "--power-cut-kills", 0, 100) / 100,
        node_tb=number(arguments.node_tb, "--node-tb", 0.001, 1e6),
        seed=whole(arguments.seed, "--seed", 0, 2**31),
    )


def years_table(years: Sequence[Year]) -> str:
    """A row for each year."""
    table = [
        [
            "year",
            "nodes",
            "shards",
            "moved",
            "(least)",
            "TB-moved",
            "TB-repaired",
            "max/mean",
            "sets",
            "partners",
            "loss:independent",
            "power-cut",
            "±error",
            "random-sets",
        ]
    ]
    for y in years:
        table.append(
            [
                str(y.year),
                str(y.nodes),
                f"2^{y.depth}",
                f"{y.moved:.3f}",
                f"{y.minimum:.3f}",
                f"{y.moved_tb:.0f}",
                f"{y.repaired_tb:.1f}",
                f"{y.max_over_mean:.3f}",
                str(y.replica_sets),
                f"{y.scatter:.1f}",
                f"{y.loss_independent:.1e}",
                f"{y.loss_power_cut:.4f}",
                f"{y.loss_power_cut_error:.4f}",
                f"{y.loss_power_cut_random:.4f}",
            ]
        )
    note = f"\n(no more than {NODES_MAX:,} nodes are simulated)" * (years[-1].nodes == NODES_MAX)
    return aligned(table) + note


def talk_text() -> str:
    """The origin of 99.99 % for two copies and 99.999 % for three."""
    three = loss_without_repair(3, 0.01)
    needed = yearly_loss_for(1e-5, 3)
    common = (1e-5 - 0.01**3) / 0.01
    return "\n".join(
        [
            "The talk's figures, a year, nothing ever repaired:",
            f"  2x {1 - loss_without_repair(2, 0.01):.2%}: two nodes that are each lost with 1 %",
            f"  3x {1 - three:.4%} by the same reckoning; 99.999 % needs {needed:.2%} a node, or",
            f"     1 % and a common cause that takes all copies in {common:.2%} of those losses",
        ]
    )


def repair_text(life: Life) -> str:
    """The effect of repair, and the repair time that eleven nines need."""
    lines_ = [
        f"With repair in {life.repair_hours * 60:.0f} min, {life.afr:.0%} of nodes lost a year:"
    ]
    for replicas in REPLICAS_STUDIED:
        lost = loss_probability(replicas, life.afr, life.repair_hours)
        lines_.append(f"  {replicas}x loses a set with {lost:.1e} a year: {nines(lost):.1f} nines")
    for afr in (0.02, 0.04, 0.08):
        hours = repair_hours_for(ELEVEN_NINES, 3, afr)
        gigabytes = life.node_tb * 1000 / (hours * 3600)
        two = repair_hours_for(ELEVEN_NINES, 2, afr) * 3600
        lines_.append(
            f"  eleven nines at {afr:.0%}: 3x in {hours * 60:.0f} min ({gigabytes:.1f} GB/s for"
            f" {life.node_tb:.0f} TB), 2x in {two:.1f} s"
        )
    return "\n".join(lines_)


def checks_table(seed: int) -> str:
    """Monte-Carlo beside the closed form, at rates where losses can be counted."""
    table = [
        ["copies", "lost a year", "repair h", "years", "Monte-Carlo", "± error", "closed form"]
    ]
    for replicas, afr, hours, years in CHECKS:
        found, error = simulated_loss(replicas, afr, hours, years, CHECK_TRIALS, seed)
        exact = loss_probability(replicas, afr, hours, years)
        table.append(
            [
                f"{replicas}x",
                f"{afr:.0%}",
                f"{hours:.0f}",
                f"{years:.0f}",
                f"{found:.5f}",
                f"{error:.5f}",
                f"{exact:.5f}",
            ]
        )
    return aligned(table)


def copyset_table() -> str:
    """The chance of any loss when some nodes die at once, by the number of sets."""
    table = [["3x, nodes / die at once", "65,536 sets", "4,096", "256", "scatter 10"]]
    for nodes, killed in ((9, 3), (64, 3), (64, 5), (1000, 10), (5000, 50)):
        few = copyset_count(nodes, 3, min(10, nodes - 1))
        chances = [loss_when_killed(nodes, killed, 3, sets) for sets in (65_536, 4_096, 256, few)]
        table.append([f"{nodes} / {killed}", *[f"{chance:.4f}" for chance in chances]])
    return aligned(table)


def figures_of(years: Sequence[Year]) -> dict[str, Figure]:
    """Durability by repair time, loss by number of sets, and the years."""
    hours = [0.05 * 1.6**step for step in range(20)]
    durability = {
        f"{replicas}x, {afr:.0%} a year": (
            [h * 60 for h in hours],
            [nines(loss_probability(replicas, afr, h)) for h in hours],
        )
        for replicas in REPLICAS_STUDIED
        for afr in (0.02, 0.04, 0.08)
    }
    sets = [2**power for power in range(4, 19)]
    killed = {
        f"{nodes} nodes, {dead} die": (
            [float(count) for count in sets],
            [loss_when_killed(nodes, dead, 3, count) for count in sets],
        )
        for nodes, dead in ((64, 3), (64, 5), (1000, 10), (5000, 50))
    }
    at = [float(y.nodes) for y in years]
    movement = {
        "moved": (at, [y.moved for y in years]),
        "the least possible": (at, [y.minimum for y in years]),
    }
    return {
        "durability": lines(
            durability,
            "Nines a year of one replica set",
            "minutes until repaired",
            "nines",
            log_y=False,
            limit=ELEVEN_NINES,
        ),
        "killed": lines(killed, "Any loss, three copies", "distinct replica sets", "chance"),
        "life": lines(
            movement, "Moved by a year's growth", "nodes", "share of all copies", log_y=False
        ),
    }


def write(directory: Path, life: Life, years: Sequence[Year], parts: Sequence[str]) -> None:
    """Write all files into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    figures = figures_of(years)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([field.name for field in fields(Year)])
    writer.writerows([asdict(year).values() for year in years])
    (directory / "simulate.csv").write_text(out.getvalue())
    data = {"life": asdict(life), "years": [asdict(year) for year in years]}
    (directory / "simulate.json").write_text(json.dumps(data, indent=1) + "\n")
    for name, figure in figures.items():
        saved(figure, directory / f"{name}.svg", "svg")
        saved(figure, directory / f"{name}.png", "png")
    cells = [
        [f"{v:.4g}" if isinstance(v, float) else str(v) for v in asdict(y).values()] for y in years
    ]
    tables = {"Years": [[field.name for field in fields(Year)], *cells]}
    page = html_page("Years of a cluster", parts[1:3], figures, tables, "")
    (directory / "simulate.html").write_text(page)
