"""Begin, put, commit, restore: one process, and two that both take themselves for the owner."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.unit.checkpoints.memory import (
    MemoryLog,
    MemoryPartitions,
    MemoryStore,
    checkpoints_in,
)

from octad import CheckpointDamaged, CheckpointFenced, CheckpointNotFound, CheckpointTooNew
from octad.client.checkpoints.rules.documents import Head, opened, sealed
from octad.client.checkpoints.staging import PART_BYTES
from octad.client.errors import ConfigurationError, DownloadFailed, Unavailable

HEAD = "p/jobs/job/head"


async def test_what_was_committed_is_restored_and_before_that_nothing_is_there(
    tmp_path: Path,
) -> None:
    objects: dict[str, bytes] = {}
    checkpoints = checkpoints_in(objects)
    writer = await checkpoints.begin()
    await writer.put("counts.json", b'{"a": 1}')
    (tmp_path / "db" / "deep").mkdir(parents=True)
    (tmp_path / "db" / "1.sst").write_bytes(b"table")
    (tmp_path / "db" / "deep" / "empty").write_bytes(b"")
    await writer.put_dir(tmp_path / "db", "db/")
    assert await checkpoints.latest() is None
    made = await writer.commit({("orders", 0): 7}, {"step": 3})
    last = await checkpoints.latest()
    assert last is not None
    assert (last.id, last.offsets, await last.metadata()) == (
        made.id,
        {("orders", 0): 7},
        {"step": 3},
    )
    await last.restore(tmp_path / "back")
    assert (tmp_path / "back" / "counts.json").read_bytes() == b'{"a": 1}'
    assert (tmp_path / "back" / "db" / "1.sst").read_bytes() == b"table"
    assert (tmp_path / "back" / "db" / "deep" / "empty").read_bytes() == b""
    assert sorted(p.name for p in (tmp_path / "back").iterdir()) == ["counts.json", "db"]


async def test_a_process_that_was_taken_over_commits_nothing_more() -> None:
    objects: dict[str, bytes] = {}
    first = await checkpoints_in(objects).begin()
    await first.put("a", b"old")
    second = await checkpoints_in(objects).begin()
    await second.put("a", b"new")
    made = await second.commit()
    await first.put("a", b"late")
    for _ in range(2):
        with pytest.raises(CheckpointFenced) as refusal:
            await first.commit()
        assert (refusal.value.epoch, refusal.value.newer_epoch) == (1, 2)
    assert [each.id for each in await checkpoints_in(objects).list()] == [made.id]
    last = await checkpoints_in(objects).latest()
    assert last is not None
    assert await last.read("a") == b"new"


async def test_equal_data_is_stored_once_along_a_chain_and_by_a_job_that_names_another() -> None:
    objects: dict[str, bytes] = {}
    writer = await checkpoints_in(objects).begin()
    large = bytes(PART_BYTES) + b"x" * PART_BYTES + b"tail"
    await writer.put("state", large)
    one = await writer.commit()
    assert one.added == len(large)
    await writer.put("state", large[:-1] + b"L")
    two = await writer.commit(savepoint="before")
    assert two.added == len(b"tail")
    await writer.put("renamed", large)
    assert (await writer.commit()).added == 0
    again = await checkpoints_in(objects).begin()
    await again.put("renamed", large)
    assert (await again.commit()).added == 0
    other = await checkpoints_in(objects, "other").begin(bases=[("job", one.id)])
    assert any("other/begins/" in key for key in objects)
    await other.put("mine", large)
    assert (await other.commit()).added == 0
    assert not any("/begins/" in key for key in objects)


async def test_files_are_written_as_streams_and_read_in_part_and_into_open_files() -> None:
    objects: dict[str, bytes] = {}
    writer = await checkpoints_in(objects).begin()
    data = hashlib.sha256(b"1").digest() * 300_000
    async with writer.put_stream("s") as stream:
        for at in range(0, len(data), 100_001):
            await stream.write(data[at : at + 100_001])
    half = writer.put_stream("half")
    await half.write(b"half")
    await half.__aexit__(ValueError, ValueError("it broke off"), None)
    made = await writer.commit()
    assert await made.files() == {"s": len(data)}
    into = io.BytesIO()
    await made.restore_file("s", into)
    assert into.getvalue() == data
    around = PART_BYTES - 10
    assert await made.read("s", start=around, end=around + 20) == data[around : around + 20]
    assert await made.read("s", start=len(data) - 3) == data[-3:]


async def test_retention_spares_savepoints_pins_and_the_newest() -> None:
    objects: dict[str, bytes] = {}
    checkpoints = checkpoints_in(objects)
    writer = await checkpoints.begin(keep=2)
    made = [await writer.commit(savepoint="v1" if n == 0 else "") for n in range(3)]
    await checkpoints.pin(made[1].id, label="looked at")
    made += [await writer.commit() for _ in range(3)]
    assert [each.id for each in await checkpoints.list()] == [made[n].id for n in (5, 4, 1, 0)]
    await checkpoints.unpin(made[1].id)
    assert await checkpoints.keep(1) == [made[1].id, made[4].id]
    assert (await checkpoints.checkpoint("v1")).id == made[0].id
    with pytest.raises(CheckpointNotFound):
        await checkpoints.checkpoint(made[1].id)


async def test_thousands_of_checkpoints_are_listed_though_the_head_stays_small() -> None:
    objects: dict[str, bytes] = {}
    checkpoints = checkpoints_in(objects)
    writer = await checkpoints.begin()
    made = [(await writer.commit({("t", 0): n})).id for n in range(1300)]
    assert len(objects[HEAD]) < 40_000
    assert [each.id for each in await checkpoints.list()] == made[::-1]
    found = await checkpoints.latest(offsets={("t", 0): 99})
    assert found is not None
    assert found.id == made[99]
    await checkpoints.pin(made[3])
    await writer.commit()
    assert len(await checkpoints.keep(5)) == 1295
    assert [each.id for each in await checkpoints.list()][4:] == [made[1296], made[3]]
    renewed = await checkpoints_in(objects).begin(keep=70)
    for _ in range(400):
        await renewed.commit()
    assert 71 <= len(await checkpoints.list()) <= 71 + 64


async def test_the_log_is_fenced_pinned_before_the_head_and_released_after_it() -> None:
    objects: dict[str, bytes] = {}
    partitions = MemoryPartitions()
    told: list[str] = []

    async def step(what: str, effect: object) -> object:
        told.append(what)
        assert callable(effect)
        return effect()

    checkpoints = checkpoints_in(objects, log=MemoryLog(partitions, step), step=step)
    writer = await checkpoints.begin([("in", 0), ("out", 1)], keep=1)
    assert told == [f"read {HEAD}", f"put {HEAD}", "fence in 0 job 1", "fence out 1 job 1"]
    first = await writer.commit({("in", 0): 5})
    told.clear()
    second = await writer.commit({("in", 0): 9})
    assert told == [
        f"pin in 0 {second.id} 9",
        f"put p/jobs/job/manifests/{second.id}",
        f"put {HEAD}",
        f"release in 0 {first.id}",
    ]
    assert partitions.pins == {("job", second.id, "in", 0): 9}


async def test_a_checkpoint_that_others_dropped_is_no_base_any_more() -> None:
    objects: dict[str, bytes] = {}
    checkpoints = checkpoints_in(objects)
    writer = await checkpoints.begin()
    await writer.put("a", b"shared")
    await writer.commit()
    second = await checkpoints_in(objects).begin()
    await second.put("b", b"more")
    await second.commit()
    third = await checkpoints_in(objects).begin()
    await third.put("b", b"more")  # Shares with the newest; the others drop it meanwhile.
    store = third._place.store
    assert isinstance(store, MemoryStore)
    dropped = drop_newest(objects)
    made = await third.commit()
    assert f"copy p/data/{hashlib.sha256(b'more').hexdigest()}.2" in "".join(store.requests)
    for key in [key for key in objects if key.endswith(f".{dropped.partition('.')[2]}")]:
        del objects[key]
    assert await made.read("b") == b"more"


async def test_nor_after_a_commit_whose_end_is_not_known() -> None:
    objects: dict[str, bytes] = {}
    silent = False

    async def step(what: str, effect: object) -> object:
        assert callable(effect)
        if silent and what == f"put {HEAD}":
            raise Unavailable(what, "try again", outcome_unknown=True)
        return effect()

    checkpoints = checkpoints_in(objects, step=step)
    for data in (b"shared", b"more"):
        writer = await checkpoints.begin()
        await writer.put("b", data)
        await writer.commit()
    third = await checkpoints.begin()
    await third.put("b", b"more")
    silent = True
    with pytest.raises(Unavailable):
        await third.commit()
    silent = False
    dropped = drop_newest(objects)
    made = await third.commit()
    for key in [key for key in objects if key.endswith(f".{dropped.partition('.')[2]}")]:
        del objects[key]
    assert await made.read("b") == b"more"


def drop_newest(objects: dict[str, bytes]) -> str:
    """As someone else would: the job's owner does not know of it. The id."""
    head = opened(objects[HEAD], Head, HEAD)
    objects[HEAD] = sealed(replace(head, kept=head.kept[:-1], change="another"))
    return head.kept[-1].id


async def test_bad_input_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    objects: dict[str, bytes] = {}
    checkpoints = checkpoints_in(objects)
    writer = await checkpoints.begin()
    for path in ("../a", "/a", "a//b", "", "a/../b", "a\n"):
        with pytest.raises(ConfigurationError):
            await writer.put(path, b"")
    with pytest.raises(ConfigurationError):
        await writer.commit(metadata={"x": object()})
    with pytest.raises(ConfigurationError):
        checkpoints_in({}, "a/b")
    with pytest.raises(ConfigurationError):
        await checkpoints.begin([("t", 0)])
    await writer.put("a", b"1")
    made = await writer.commit()
    (tmp_path / "mine").write_bytes(b"mine")
    with pytest.raises(DownloadFailed, match="not empty"):
        await made.restore(tmp_path)
    assert (tmp_path / "mine").read_bytes() == b"mine"
    with pytest.raises(DownloadFailed, match="mine"):
        await made.restore(tmp_path / "mine" / "below")


async def test_a_head_that_was_edited_or_is_newer_stops_everything() -> None:
    objects: dict[str, bytes] = {}
    checkpoints = checkpoints_in(objects)
    writer = await checkpoints.begin()
    await writer.commit()
    whole = objects[HEAD]
    for damaged, error in (
        (whole.replace(b'"epoch":1', b'"epoch":7'), CheckpointDamaged),
        (whole[:-9], CheckpointDamaged),
        (b"[]", CheckpointDamaged),
        (b"", CheckpointDamaged),
        (whole.replace(b'"format":1', b'"format":2'), CheckpointTooNew),
    ):
        objects[HEAD] = damaged
        before = dict(objects)
        for doing in (checkpoints.begin, checkpoints.latest, checkpoints.list):
            with pytest.raises(error):
                await doing()
        with pytest.raises(error):
            await writer.commit()
        assert objects[HEAD] == damaged
        assert {k: v for k, v in objects.items() if "manifests" not in k} == {
            k: v for k, v in before.items() if "manifests" not in k
        }


async def test_missing_and_damaged_data_is_named_with_what_else_restores(tmp_path: Path) -> None:
    objects: dict[str, bytes] = {}
    checkpoints = checkpoints_in(objects)
    writer = await checkpoints.begin()
    await writer.put("a", b"one")
    one = await writer.commit()
    await writer.put("a", b"two")
    two = await writer.commit()
    key = f"p/data/{hashlib.sha256(b'two').hexdigest()}.{two.id.partition('.')[2]}"
    for damage in (b"tvo", b"tw", None):
        if damage is None:
            del objects[key]
        else:
            objects[key] = damage
        with pytest.raises(CheckpointDamaged) as found:
            await two.restore(tmp_path / "back")
        assert (found.value.key, found.value.restores) == (key, (one.id,))
        assert list((tmp_path / "back").iterdir()) == []
    await one.restore(tmp_path / "back")
    assert not any("reader-" in each for each in objects)
