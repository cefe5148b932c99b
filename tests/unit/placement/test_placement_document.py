"""The examples of `docs/reference/placement.md` are what the code writes, to the byte."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from tests.unit.placement.placement_cluster import KEYS, PLACEMENT

from octad.coordinator.schema.cluster_snapshot import in_snapshot
from octad.coordinator.schema.placement_messages import ACTIONS
from octad.coordinator.schema.placement_records import (
    NodeSettings,
    PlacementOperation,
    PlanProgress,
    ShardPlan,
    TargetChunk,
    UsageRecord,
    encode_record,
)
from octad.sharding.ids import NodeId, PoolId, shard_id

REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "reference"
EXAMPLE = re.compile(r"^### `([^`\n]+)`$.*?^```json\n([^\n]+)\n```$", re.MULTILINE | re.DOTALL)
EXAMPLES = dict(EXAMPLE.findall((REFERENCE / "placement.md").read_text()))
SHARD = shard_id(PoolId(0), 17)
KINDS: dict[str, type[msgspec.Struct]] = {
    PLACEMENT.node_settings(NodeId(2)): NodeSettings,
    PLACEMENT.operation: PlacementOperation,
    PLACEMENT.target("9f8e7d6c5b4a", "0/0"): TargetChunk,
    PLACEMENT.plan(SHARD): ShardPlan,
    PLACEMENT.plan_progress(SHARD): PlanProgress,
    PLACEMENT.node_usage(NodeId(2)): UsageRecord,
}


def test_there_is_an_example_for_every_kind_of_key() -> None:
    assert list(EXAMPLES) == list(KINDS)


@pytest.mark.parametrize("key", KINDS)
def test_an_example_is_read_and_written_again_as_it_stands(key: str) -> None:
    data = EXAMPLES[key].encode()
    assert encode_record(msgspec.json.decode(data, type=KINDS[key])) == data


@pytest.mark.parametrize("key", KINDS)
def test_a_field_of_a_newer_octad_is_kept_when_the_record_is_written_again(key: str) -> None:
    data = EXAMPLES[key].encode()[:-1] + b',"newer":[1]}'
    record = msgspec.json.decode(data, type=KINDS[key])
    assert msgspec.json.decode(encode_record(record, data))["newer"] == [1]


def test_of_these_only_settings_outlive_a_store() -> None:
    assert [key for key in KINDS if in_snapshot(KEYS, key)] == [PLACEMENT.node_settings(NodeId(2))]


def test_every_action_is_in_the_description_of_the_interface() -> None:
    text = (REFERENCE / "coordinator-http.md").read_text()
    line = next(line for line in text.splitlines() if "/cluster/v1/plan/<action>" in line)
    assert [action for action in ACTIONS if f"`{action}`" not in line] == []
