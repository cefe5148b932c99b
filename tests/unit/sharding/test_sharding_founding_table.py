"""The measurement that octad's design rests on comes out again, cell by cell."""

from __future__ import annotations

from pathlib import Path

import pytest

from octad.sharding.study.model.cluster_spec import ClusterSpec, parse_steps
from octad.sharding.study.model.comparison import Comparison, Measured, Prices
from octad.sharding.study.model.trace import synthetic
from octad.sharding.study.regenerate import KEYS, main, replaced
from octad.sharding.study.rivals.all_schemes import chosen_schemes

# Moved at 4→5, 8→9, 8→16, 64→65, and max/mean at 9, as the design has them. The rings' figures
# depend on where their points happen to fall, and the mask was measured folded: linear hashing.
FOUNDING = {
    "map": (0.199, 0.111, 0.499, 0.015, 1.00),
    "mod": (0.398, 0.667, 0.501, 0.953, 1.01),
    "linear": (0.209, 0.104, 0.501, 0.013, 1.13),
    "jump": (0.207, 0.117, 0.506, 0.016, 1.01),
    "rendezvous": (0.200, 0.111, 0.501, 0.015, 1.01),
    "maglev": (0.208, 0.120, 0.510, 0.021, 1.01),
}
RINGS = {
    "ring-128": (0.198, 0.124, 0.506, 0.016, 1.12),
    "ring-256": (0.203, 0.116, 0.507, 0.015, 1.05),
}
OBJECTS = synthetic(KEYS)


def measured(scheme: str) -> tuple[float, ...]:
    comparison = Comparison(ClusterSpec(), OBJECTS, 3, Prices(), lambda done, all_: None)

    def run(nodes: int, step: str) -> Measured:
        (row,) = comparison.run(chosen_schemes(scheme), [nodes], parse_steps(step))
        return row

    nine = run(8, "+1")
    moved = [run(nodes, step).moved for nodes, step in ((4, "+1"), (8, "x2"), (64, "+1"))]
    return moved[0], nine.moved, moved[1], moved[2], nine.max_over_mean


@pytest.mark.parametrize("scheme", FOUNDING)
def test_the_founding_table_comes_out(scheme: str) -> None:
    assert measured(scheme) == pytest.approx(FOUNDING[scheme], abs=0.006)


@pytest.mark.parametrize("scheme", RINGS)
def test_the_rings_of_the_founding_table_come_out_within_the_luck_of_their_points(
    scheme: str,
) -> None:
    assert measured(scheme) == pytest.approx(RINGS[scheme], abs=0.05)


def test_a_table_of_the_page_is_replaced_between_its_markers_and_nothing_else() -> None:
    text = "a\n<!-- t -->\nold\n<!-- end -->\nb\n<!-- u -->\nkept\n<!-- end -->\n"
    assert replaced(text, "t", "new") == text.replace("old", "new")
    with pytest.raises(SystemExit, match="no <!-- v -->"):
        replaced(text, "v", "new")


def test_the_page_is_found_before_the_work_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert "usage" in capsys.readouterr().err
