"""The figures. Each function draws one; `saved` writes it, the same bytes every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from octad.sharding.study.model.comparison import Measured
from octad.sharding.study.model.growth_costs import MONTHS_A_YEAR, GrowthCosts

OURS_COLOUR, OTHER_COLOUR, LIMIT_COLOUR = "#0b6e4f", "#9aa5b1", "#c1121f"


def apply_style() -> None:
    """Set what all figures have in common."""
    mpl.rcParams["svg.hashsalt"] = "octad"
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["font.size"] = 9
    mpl.rcParams["axes.spines.top"] = False
    mpl.rcParams["axes.spines.right"] = False


def saved(figure: Figure, path: Path, kind: Literal["svg", "png"]) -> None:
    """Write `figure`; without a date, so that the same figures are the same bytes."""
    apply_style()
    if kind == "svg":
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": "octad"})
    else:
        figure.savefig(path, format="png", dpi=150, metadata={"Software": "octad"})


def bars(
    values: Mapping[str, float],
    title: str,
    unit: str,
    limit: float | None = None,
    log: bool = False,
) -> Figure:
    """A bar for each scheme, octad's in colour, with an optional line at the optimum."""
    figure, axes = _figure(5.2, 0.24 * len(values) + 0.9)
    names = list(values)[::-1]
    colours = [OURS_COLOUR if name.startswith("map") else OTHER_COLOUR for name in names]
    axes.barh(names, [values[name] for name in names], color=colours, height=0.7)
    for place, name in enumerate(names):
        axes.text(values[name], place, f" {values[name]:.3g}", va="center", fontsize=8)
    if limit is not None:
        axes.axvline(limit, color=LIMIT_COLOUR, linewidth=1)
    if log:
        axes.set_xscale("log")
    axes.set_xlabel(unit)
    axes.set_title(title, loc="left", fontsize=10)
    return figure


def comparison_figures(rows: Sequence[Measured]) -> dict[str, Figure]:
    """By file name: movement for each step, load, look-up, state, sets."""
    figures = {}
    counts = sorted({row.nodes for row in rows})
    middle = 8 if 8 in counts else counts[len(counts) // 2]
    for each in dict.fromkeys(row.step for row in rows):
        chosen = [row for row in rows if row.step == each and row.nodes == middle]
        if chosen:
            moved = {row.scheme: row.moved for row in chosen}
            title = f"Data moved, {middle} nodes {each} (line: the minimum)"
            name = "moved-" + each.replace("+", "plus").replace("-", "minus")
            figures[name] = bars(moved, title, "share of all copies", chosen[0].minimum)
    of_largest = [row for row in rows if row.nodes == counts[-1]]
    step = of_largest[0].step
    largest = [row for row in of_largest if row.step == step]
    figures["load"] = bars(
        {row.scheme: row.max_over_mean for row in largest},
        f"Load of the fullest node, {counts[-1]} nodes {step}",
        "times its fair share",
        1.0,
    )
    figures["lookup"] = bars(
        {row.scheme: row.lookup_ns for row in largest},
        f"Look-up in plain Python, {counts[-1]} nodes",
        "ns beyond the hash",
        log=True,
    )
    figures["state"] = bars(
        {row.scheme: row.state_bytes / 1024 for row in largest},
        f"State of a client, {counts[-1]} nodes",
        "KiB",
        log=True,
    )
    figures["sets"] = bars(
        {row.scheme: float(row.replica_sets) for row in largest},
        f"Distinct replica sets, {counts[-1]} nodes",
        "sets",
        log=True,
    )
    return figures


def growth_figure(histories: Sequence[GrowthCosts], growth: float) -> Figure:
    """Doubling beside growing by one: nodes, copied data and idle room, over the years."""
    apply_style()
    figure = Figure(figsize=(8.4, 2.7), layout="constrained")
    panels: tuple[tuple[str, list[tuple[float, ...]]], ...] = (
        ("nodes", [history.nodes for history in histories]),
        ("TB copied, in all", [history.copied_tb for history in histories]),
        ("idle node-months, in all", [history.idle_node_months for history in histories]),
    )
    for place, (title, series) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, 3, place)
        for history, values in zip(histories, series, strict=True):
            years = [month / MONTHS_A_YEAR for month in range(len(values))]
            colour = OURS_COLOUR if history.policy == "by one" else LIMIT_COLOUR
            axes.plot(years, values, color=colour, label=history.policy, linewidth=1.3)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel(f"years at {growth:.0%} a year")
        if place == 1:
            axes.legend(frameon=False)
    return figure


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
    x_label: str,
    y_label: str,
    *,
    log_x: bool = True,
    log_y: bool = True,
    limit: float | None = None,
) -> Figure:
    """A line for each name."""
    figure, axes = _figure(5.2, 3.2)
    for name, (x, y) in series.items():
        axes.plot(x, y, label=name, linewidth=1.3, marker="o", markersize=2.5)
    if log_x:
        axes.set_xscale("log")
    if log_y:
        axes.set_yscale("log")
    if limit is not None:
        axes.axhline(limit, color=LIMIT_COLOUR, linewidth=1, linestyle="--")
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    apply_style()
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()
