"""Files of keys and values: single keys and ranges are read without the rest, and checked."""

from __future__ import annotations

import random

import pytest
from tests.unit.checkpoints.memory import MemoryStore, checkpoints_in

from octad import CheckpointDamaged, key_value_file
from octad.client.checkpoints.rules.key_values import BLOCK_BYTES
from octad.client.errors import ConfigurationError

ITEMS = {
    f"key {number:05}".encode(): random.Random(number).randbytes(number % 700)
    for number in range(0, 6000, 2)
}


def test_the_bytes_of_a_small_file_are_those_of_the_format() -> None:
    assert b"".join(key_value_file([(b"a", b"1"), (b"b", b"")])).hex() == (
        "0100000001000000613101000000000000006228b3ab99f2277bec"
        "010000006100000000000000001b000000da2e1a478c869315"
        "1b00000000000000190000000000000002000000000000004f435441444b5631"
    )  # fmt: skip


async def test_a_key_of_the_newest_checkpoint_is_read_without_the_rest() -> None:
    objects: dict[str, bytes] = {}
    checkpoints = checkpoints_in(objects)
    writer = await checkpoints.begin()
    await writer.put("counts.kv", key_value_file(ITEMS.items()))
    await writer.put("empty.kv", key_value_file([]))
    await writer.commit()
    last = await checkpoints.latest()
    assert last is not None
    for number in range(0, 6000, 501):
        key = f"key {number:05}".encode()
        assert await last.look_up("counts.kv", key) == ITEMS.get(key)
    for absent in (b"", b"a", b"key 00001", b"z"):
        assert await last.look_up("counts.kv", absent) is None
        assert await last.look_up("empty.kv", absent) is None
    store = checkpoints.place.store
    assert isinstance(store, MemoryStore)
    store.requests.clear()
    assert await last.look_up("counts.kv", b"key 03000") == ITEMS[b"key 03000"]
    assert len(store.requests) == 1
    found = [each async for each in last.scan("counts.kv", b"key 00995", b"key 02001")]
    assert found == [(k, v) for k, v in ITEMS.items() if b"key 00995" <= k < b"key 02001"]
    assert [each async for each in last.scan("counts.kv")] == list(ITEMS.items())


async def test_what_is_not_in_order_is_refused_and_what_was_changed_is_noticed() -> None:
    for items in ([(b"b", b""), (b"a", b"")], [(b"a", b""), (b"a", b"")]):
        with pytest.raises(ConfigurationError):
            list(key_value_file(items))
    objects: dict[str, bytes] = {}
    checkpoints = checkpoints_in(objects)
    writer = await checkpoints.begin()
    await writer.put("counts.kv", key_value_file(ITEMS.items()))
    await writer.put("text", b"no such file" * 9)
    last = await writer.commit()
    (key,) = (each for each in objects if "/data/" in each and len(objects[each]) > BLOCK_BYTES)
    objects[key] = objects[key][:30] + b"\0" + objects[key][31:]
    with pytest.raises(CheckpointDamaged):
        await last.look_up("counts.kv", b"key 00000")
    with pytest.raises(CheckpointDamaged):
        await last.look_up("text", b"key 00000")
