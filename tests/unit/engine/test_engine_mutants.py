"""A test of the tests: with one sync, check or order taken out of the engine, its stories fail."""

from __future__ import annotations

import inspect
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import cast

import pytest
from tests.unit.engine.test_engine_crashes import tell
from tests.unit.upkeep.test_compaction import (
    delete_outlives_compaction,
    overwritten_while_it_is_moved,
    position_waits_for_copies,
)

from octad.storage_node.index.counted_index import not_ahead
from octad.storage_node.index.space_ledger import SpaceLedger
from octad.storage_node.journal import commit_thread, record_format, retired_segments, segment_file
from octad.storage_node.journal.commit_thread import CommitThread
from octad.storage_node.journal.journal import Journal
from octad.storage_node.journal.journal_recovery import JournalRecovery
from octad.storage_node.operations import copy_format
from octad.storage_node.upkeep.compactor import Compactor

STORIES_MAX = 200

TELL = "self._loop.call_soon_threadsafe(self._on_synced, batch)"
MUTANTS: dict[str, tuple[Callable[..., object], str, str]] = {
    "a batch is not synced": (CommitThread._sync, "batch.file.sync()", "pass"),
    "a batch is acknowledged before it is synced": (
        CommitThread._run,
        "self._sync(batch)\n",
        f"{TELL}; time.sleep(0.001); self._sync(batch); continue\n",
    ),
    "a new segment is not synced": (segment_file.create_segment, "disk.sync(descriptor)", "pass"),
    "a new segment's name is not synced": (
        segment_file.create_segment,
        "disk.sync_directory(directory)",
        "pass",
    ),
    "a record's checksum is not compared": (
        record_format.decode_record,
        "xxh3_64_intdigest(view[MAGIC_OFFSET:length], seed) !=",
        "None is",
    ),
    "a checksum's seed does not tell uses of a file apart": (
        record_format.checksum_seed,
        "return segment << 32 | generation",
        "return 1",
    ),
    "a record says more is synced than is": (
        Journal.append,
        "self._sealed_to,",
        "Position(self._end + 2 * length),",
    ),
    "a torn tail is taken for damage": (
        JournalRecovery._last,
        "if proven > position(file.segment, at):",
        "if True:",
    ),
    "the index is ahead of the journal": (
        not_ahead,
        "min(place, journal.durable_to)",
        "place",
    ),
    "rows that move are not counted": (
        SpaceLedger.count,
        "more[location.segment] = more.get(location.segment, 0) - location.length",
        "pass",
    ),
    "rows move before their copies are synced": (
        Compactor._settle,
        "await self._journal.durable(moves[-1][0])",
        "pass",
    ),
    "a segment goes before the index is flushed": (
        Compactor.compact,
        "await index.flush_in_thread()",
        "pass",
    ),
    "a row that has changed since is moved to the copy of the old one": (
        copy_format.moved,
        "if decode_located(value).location == source else None",
        "",
    ),
    "a record that makes others void is dropped at once": (
        Compactor._makes_void,
        "return min(self._index.ledger.segments) < original.origin",
        "return False",
    ),
    "a row is copied while its end is prepared": (
        Compactor._copy,
        "if self._is_dirty(record.shard, key):",
        "if False:",
    ),
    "the note of retired segments is not synced": (
        retired_segments.write_retired,
        "disk.sync(descriptor)",
        "pass",
    ),
    "a retired segment is read as long as its file is there": (
        JournalRecovery.__init__,
        "if not self._retired.has(each)",
        "",
    ),
    "a row that is being written is not left alone": (
        Compactor.compact,
        "if copied is None or index.ledger.segments[segment].live:",
        "if False:",
    ),
}


@contextmanager
def mutated(function: Callable[..., object], old: str, new: str) -> Iterator[None]:
    """`function` with `old` replaced in its source, wherever it was imported to."""
    target = cast("FunctionType", function)
    source = textwrap.dedent(inspect.getsource(target)).replace(textwrap.dedent(old), "\0", 1)
    if "\0" not in source:
        source = textwrap.dedent(inspect.getsource(target).replace(old, "\0", 1))
    assert "\0" in source, "the mutant does not fit the code any more"
    module = compile(source.replace("\0", new), "<mutant>", "exec", flags=_annotations())
    code = next(const for const in module.co_consts if isinstance(const, CodeType))
    original, target.__code__ = target.__code__, code
    try:
        yield
    finally:
        target.__code__ = original


def _annotations() -> int:
    import __future__

    return __future__.annotations.compiler_flag


@pytest.mark.parametrize("name", MUTANTS)
async def test_the_stories_fail_where(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_thread, "time", time, raising=False)
    with mutated(*MUTANTS[name]):
        try:
            await delete_outlives_compaction()
            await overwritten_while_it_is_moved()
            await position_waits_for_copies()
            for seed in range(STORIES_MAX):
                await tell(seed)
        except Exception:
            return
    pytest.fail(f"no story fails although {name}")
