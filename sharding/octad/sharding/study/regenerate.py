"""Draws the figures and fills the tables of `docs/explanation/sharding.md` anew.

    python -m octad.sharding.study.regenerate docs/explanation

A table stands between `<!-- name -->` and `<!-- end -->`. Everything but the look-up times is the
same on every machine; the line under the tables says which machine and commit they come from.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from octad.sharding.study.model import progress
from octad.sharding.study.model.cluster_spec import ClusterSpec, parse_steps
from octad.sharding.study.model.comparison import Comparison, Measured, Prices
from octad.sharding.study.model.durability import loss_probability, nines, repair_hours_for
from octad.sharding.study.model.failure_simulation import simulated_loss
from octad.sharding.study.model.growth_costs import growth_costs
from octad.sharding.study.model.lifetime import Life, Year, live
from octad.sharding.study.model.trace import Objects, synthetic
from octad.sharding.study.report.plots import comparison_figures, growth_figure, saved
from octad.sharding.study.rivals.all_schemes import chosen_schemes
from octad.sharding.study.rivals.scheme import Scheme
from octad.sharding.study.simulate import CHECK_TRIALS, CHECKS, figures_of

KEYS = 60_000
REPLICAS = 3
FOUNDING = ((4, "+1"), (8, "+1"), (8, "x2"), (64, "+1"))
GROWTH, GROWTH_YEARS = 0.3, 10
SEED = 1
LIFE = Life(
    nodes=9,
    replicas=3,
    years=GROWTH_YEARS,
    growth=GROWTH,
    afr=0.04,
    repair_hours=1,
    scatter_width=12,
    power_cuts=0.5,
    power_cut_kills=0.05,
    node_tb=10,
    seed=SEED,
)


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or not (Path(arguments[0]) / "sharding.md").is_file():
        print("usage: python -m octad.sharding.study.regenerate docs/explanation", file=sys.stderr)
        return 2
    directory = Path(arguments[0])
    schemes = (*chosen_schemes(""), *chosen_schemes("map-2^16"))
    measured = founding_rows(schemes, synthetic(KEYS))
    growing = live(LIFE, progress.show)
    large = live(
        replace(LIFE, nodes=10_000, years=1, growth=0.0, power_cut_kills=0.01), progress.show
    )
    tables = {
        "founding-table": founding_table(schemes, measured),
        "properties-table": properties_table(measured),
        "growth-table": growth_table(),
        "nines-table": nines_table(),
        "checks-table": checks_table(),
        "life-table": life_table([*growing[::2], large[0]]),
        "machine": f"{platform.machine()}, CPython {platform.python_version()}, commit {_commit()},"
        f" seed {SEED}, {KEYS:,} keys.",
    }
    page = directory / "sharding.md"
    text = page.read_text()
    for name, table in tables.items():
        text = replaced(text, name, table)
    draw(directory / "figures", measured, growing)
    page.write_text(text)
    return 0


def founding_rows(schemes: Sequence[Scheme], objects: Objects) -> list[Measured]:
    """The steps of the founding table, for every scheme."""
    rows: list[Measured] = []
    comparison = Comparison(ClusterSpec(), objects, REPLICAS, Prices(), lambda done, all_: None)
    for done, scheme in enumerate(schemes, start=1):
        for count in dict.fromkeys(count for count, _ in FOUNDING):
            steps = ",".join(step for nodes, step in FOUNDING if nodes == count)
            rows += comparison.run([scheme], [count], parse_steps(steps))
        progress.show(done, len(schemes))
    return rows


def founding_table(schemes: Sequence[Scheme], rows: Sequence[Measured]) -> str:
    """Moved at each step, load and look-up, as the design's table has it."""
    lines = _head(
        "scheme",
        *("4→5 (.200)", "8→9 (.111)", "8→16 (.500)", "64→65 (.015)"),
        *("max/mean at 9", "look-up ns, 8 nodes"),
    )
    for scheme in schemes:
        of = {(row.nodes, row.step): row for row in rows if row.scheme == scheme.name}
        moved = " | ".join(f"{of[step].moved:.3f}" for step in FOUNDING)
        nine = of[8, "+1"]
        lines.append(
            f"| {scheme.title} | {moved} | {nine.max_over_mean:.2f} | {nine.lookup_ns:,.0f} |"
        )
    return "\n".join(lines)


def properties_table(rows: Sequence[Measured]) -> str:
    """Further criteria, at 64 → 65 nodes."""
    lines = _head("scheme", "primaries changed", "p99/p50 load", "replica sets", "state, KiB")
    for row in rows:
        if row.nodes == 64:
            lines.append(
                f"| {row.scheme} | {row.primaries_changed:.3f} | {row.p99_over_p50:.3f}"
                f" | {row.replica_sets:,} | {row.state_bytes / 1024:.1f} |"
            )
    return "\n".join(lines)


def growth_table() -> str:
    """Doubling beside growing by one, from 8 nodes."""
    lines = _head(
        *("growth a year", "policy", "nodes after ten years"),
        *("TB copied", "most at once", "idle node-months"),
    )
    for growth in (0.1, 0.3, 0.6):
        for policy in ("double", "by one"):
            found = growth_costs(policy, nodes=8, growth=growth, years=GROWTH_YEARS, node_tb=10)
            lines.append(
                f"| {growth:.0%} | {policy} | {found.nodes[-1]} | {found.copied_tb[-1]:,.0f}"
                f" | {found.largest_copy:.0%} | {found.idle_node_months[-1]:,.0f} |"
            )
    return "\n".join(lines)


def nines_table() -> str:
    """Nines a year by yearly loss and repair time, and the repair time for eleven nines."""
    lines = _head(
        *("nodes lost a year", "repaired in", "2x, nines", "3x, nines"),
        "eleven nines at 3x ask for",
    )
    for afr in (0.02, 0.04, 0.08):
        asked = repair_hours_for(11, 3, afr) * 60
        for hours in (0.25, 1, 6, 24):
            two, three = (nines(loss_probability(r, afr, hours)) for r in (2, 3))
            lines.append(f"| {afr:.0%} | {hours:g} h | {two:.1f} | {three:.1f} | {asked:.0f} min |")
    return "\n".join(lines)


def checks_table() -> str:
    """Monte-Carlo beside the closed form."""
    lines = _head(
        *("copies", "lost a year", "repair", "years"),
        *("Monte-Carlo", "standard error", "closed form"),
    )
    for replicas, afr, hours, years in CHECKS:
        found, error = simulated_loss(replicas, afr, hours, years, CHECK_TRIALS, SEED)
        exact = loss_probability(replicas, afr, hours, years)
        lines.append(
            f"| {replicas}x | {afr:.0%} | {hours:.0f} h | {years:.0f}"
            f" | {found:.5f} | {error:.5f} | {exact:.5f} |"
        )
    return "\n".join(lines)


def life_table(years: Sequence[Year]) -> str:
    """Years of one cluster that grows, and one of the largest."""
    lines = _head(
        *("nodes", "shards", "moved (least)", "sets", "partners"),
        *("a power cut takes", "loss a year, octad", "± error", "the same, random sets"),
    )
    for y in years:
        lines.append(
            f"| {y.nodes:,} | 2^{y.depth} | {y.moved:.3f} ({y.minimum:.3f}) | {y.replica_sets:,}"
            f" | {y.scatter:.1f} | {y.killed} | {y.loss_power_cut:.4f}"
            f" | {y.loss_power_cut_error:.4f} | {y.loss_power_cut_random:.4f} |"
        )
    return "\n".join(lines)


def draw(directory: Path, rows: Sequence[Measured], years: Sequence[Year]) -> None:
    """All figures of the page."""
    directory.mkdir(exist_ok=True)
    figures = comparison_figures(rows)
    histories = [
        growth_costs(policy, nodes=8, growth=GROWTH, years=GROWTH_YEARS, node_tb=10)
        for policy in ("double", "by one")
    ]
    figures["growth"] = growth_figure(histories, GROWTH)
    figures |= figures_of(years)
    for name, figure in figures.items():
        saved(figure, directory / f"sharding-{name}.svg", "svg")


def replaced(text: str, name: str, table: str) -> str:
    """`text` with the part between the markers of `name` replaced."""
    start, end = f"<!-- {name} -->\n", "\n<!-- end -->"
    head, found, tail = text.partition(start)
    if not found or end not in tail:
        raise SystemExit(f"sharding.md has no {start.strip()} … {end.strip()}")
    return head + start + table + tail[tail.index(end) :]


def _head(*columns: str) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
