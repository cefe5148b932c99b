"""`octad node ls` says when what it shows is old."""

from __future__ import annotations

import pytest

from octad.coordinator.cli.plan_report import print_nodes
from octad.coordinator.schema.placement_messages import PlacedNode, PlacedNodes

NODE = PlacedNode("n1", "live", None, 1.0, 3, 1, None, None)


@pytest.mark.parametrize(
    ("age_s", "warning"),
    [(0.4, []), (12.3, ["! 12 s old: the configuration store does not answer"])],
)
def test_an_old_view_is_said_to_be_old(
    capsys: pytest.CaptureFixture[str], age_s: float, warning: list[str]
) -> None:
    print_nodes(PlacedNodes((NODE,), age_s), as_json=False)
    assert capsys.readouterr().out.splitlines()[2:] == warning
