"""The simulation's clients find nothing wrong with what is right, and every lie.

They ask the S3 handler that ships, over a dictionary; a liar stands before it, or the way there
loses requests and answers.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from random import Random

import pytest
from tests.simulation.s3.acts import act, read_everything
from tests.simulation.s3.clients import Clients, Habits
from tests.simulation.s3.exchange import Door, NoAnswer, Reply, Sent, answered
from tests.simulation.s3.lies import LIES, Liar, Lie
from tests.simulation.s3.requests import Broken, Signer
from tests.unit.s3 import memory_store
from tests.unit.s3.memory_store import MemoryStore

from octad.client.s3.sigv4 import Credentials
from octad.coordinator.schema.bucket_settings import CLOSED
from octad.sharding.limits import MIB
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.s3.answering.s3_handler import S3Handler
from octad.storage_node.s3.protocol import multipart

REGION = "us-east-1"
CREDENTIALS = Credentials("SIMULATED", "a secret")
AT_ONCE = 5
ACTS = 350
SOUND_SEEDS = 4
LYING_SEEDS = 100  # The first that finds it ends it: a completed upload is rare.
LOSS = 0.03
SIZES = (20, 20, 700, 3000)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (multipart, memory_store):
        monkeypatch.setattr(module, "PART_BYTES_MIN", 1)


class Way:
    """To the handler: others come in between, and now and then something is lost."""

    def __init__(self, random: Random, loss: float) -> None:
        self.random = random
        self.loss = loss
        numbers = itertools.count(1)
        self.store = MemoryStore()
        self.handler = S3Handler(
            self.store,
            {CREDENTIALS.access_key: (CREDENTIALS.secret_key, "root")}.get,
            REGION,
            lambda: next(numbers).to_bytes(16, "big"),
            BodyBudget(64 * MIB),
            sigv2_urls=False,
            domains=(),
            scheme="http",
            new_buckets=CLOSED,
            owner_of_id=dict[str, str]().get,
            cluster="5eed5eed",
            strict_aws=False,
        )

    async def __call__(self, sent: Sent) -> Reply:
        await self._a_while()
        if self.random.random() < self.loss:
            raise NoAnswer
        reply = await answered(self.handler, sent)
        await self._a_while()
        if self.random.random() < self.loss:
            raise NoAnswer
        return reply

    async def _a_while(self) -> None:
        for _ in range(self.random.randrange(8)):
            await asyncio.sleep(0)


async def ran(way: Way, door: Door) -> Clients:
    habits = Habits(think_s=0, patience_s=None, sizes=SIZES)
    clients = Clients(lambda: door, Signer(CREDENTIALS, REGION), way.random, habits)
    await clients.make_bucket()
    acts = itertools.count()

    async def one(clients: Clients) -> None:
        clients.stopped = next(acts) >= ACTS
        await act(clients)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(clients.run(one))
    way.loss = 0
    await read_everything(clients)
    return clients


async def test_nothing_is_wrong_with_what_is_right() -> None:
    counts: Counter[str] = Counter()
    for seed in range(SOUND_SEEDS):
        way = Way(Random(seed), LOSS if seed % 2 else 0)
        clients = await ran(way, way)
        assert clients.violations() == []
        assert not clients.keys.undecided
        counts.update(clients.counts)
    for kind in ("refused", "tried again", "not answered", "completed", "listed"):
        assert counts[kind] > 5, counts


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_every_lie_is_found(lie: Lie) -> None:
    told = 0
    for seed in range(LYING_SEEDS):
        random = Random(seed)
        way = Way(random, LOSS)
        liar = Liar(way, way.store, lie, random)
        try:
            found = (await ran(way, liar)).violations()
        except* Broken as errors:
            found = list(map(str, errors.exceptions))
        if found:
            return
        told += liar.told
    raise AssertionError(f"it lied {told} times, and no one has noticed")
