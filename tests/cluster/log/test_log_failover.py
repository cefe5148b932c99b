"""Appends while nodes are killed or shards split: nothing acknowledged is lost, nothing doubled."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.cluster.log.test_topics import clients_of, values
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.log_client import Answered, LogClient
from tests.harness.work_under_faults import (
    Happening,
    kill_each_node,
    split_shards,
    work_while,
)

pytestmark = pytest.mark.cluster

PRODUCERS = 4
TOPIC = "killed"
BACK_S_MAX = 30.0


@dataclass
class Producing:
    """Idempotent producers, each in order, each by another node whenever one does not answer."""

    cluster: DevCluster
    stop: threading.Event = field(default_factory=threading.Event)
    acknowledged: dict[int, list[int]] = field(default_factory=dict)  # Offsets, by producer.

    def produce(self, number: int) -> None:
        clients = clients_of(self.cluster)
        made = clients[0].ask("POST", f"/v1/topics/{TOPIC}/producers")
        id, turn = made.document["id"], number
        offsets = self.acknowledged.setdefault(number, [])
        while not self.stop.is_set():
            document = {
                "records": [{"value": f"{number}.{len(offsets)}"}],
                "producer": {"id": id, "sequence": len(offsets)},
            }
            answer = self._answer(clients[turn % len(clients)], number % 2, document)
            if answer is None:
                turn += 1
                clients = clients_of(self.cluster)  # One that starts again has another port.
            else:
                assert answer.status == 200, answer.body
                offsets.append(answer.document["base_offset"])

    def _answer(
        self, client: LogClient, partition: int, document: dict[str, Any]
    ) -> Answered | None:
        try:
            answer = client.append(TOPIC, partition, document)
        except OSError:
            return None
        return None if answer.status in (500, 503) else answer


def all_values(cluster: DevCluster, place: int) -> list[list[str]]:
    """As a node says, once it serves at the address that it is known by."""
    deadline = time.monotonic() + BACK_S_MAX
    while True:
        try:
            client = clients_of(cluster)[place]
            return [values(client, TOPIC, partition) for partition in range(2)]
        except OSError:
            assert time.monotonic() < deadline, f"node {place + 1} does not come back"
            time.sleep(0.1)


@pytest.mark.parametrize("happening", [kill_each_node, split_shards])
def test_idempotent_producers_lose_and_double_nothing(
    start_cluster: StartCluster, happening: Happening
) -> None:
    cluster = start_cluster()
    made = clients_of(cluster)[0].ask("PUT", f"/v1/topics/{TOPIC}", b'{"partitions":2}')
    assert made.status == 201
    producing = Producing(cluster)
    work_while(
        lambda: happening(cluster, lambda: sum(map(len, producing.acknowledged.values()))),
        producing.produce,
        PRODUCERS,
        producing.stop,
    )
    for place in range(len(cluster.nodes)):
        found = all_values(cluster, place)
        for number, offsets in producing.acknowledged.items():
            there = found[number % 2]
            mine = [value for value in there if value.startswith(f"{number}.")]
            assert mine == [f"{number}.{n}" for n in range(len(mine))], "in order, and once each"
            assert len(mine) - len(offsets) in (0, 1), "the last may be there without an answer"
            assert [there[at] for at in offsets] == mine[: len(offsets)], "where it was said"
