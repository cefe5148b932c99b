"""What a node says when it cannot start or go on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from octad.client.runtime.command import CommandError
from octad.coordinator.recovery.filling_anew import Obstacle
from octad.sharding.ids import NodeId, PoolId, ShardId, shard_id
from octad.storage_node.journal.journal_errors import CorruptRecord, IndexBehind, JournalDamage
from octad.storage_node.node.node_failures import cannot_go_on, cannot_start, journal_damaged

N3 = NodeId(3)
DATA = Path("/data/my disk/n3")
DAMAGE = CorruptRecord(DATA / "journal" / "0000000001.segment", 4096, "its checksum is wrong")


WAITS = Obstacle("shard 0/1 not known to have 2 other copies that are verified")


def damaged(
    damage: JournalDamage, *only_here: int, known: bool = True, obstacle: Obstacle = WAITS
) -> CommandError:
    shards: list[ShardId] = [shard_id(PoolId(0), number) for number in only_here]
    return journal_damaged(N3, DATA, damage, shards if known else None, obstacle)


def test_with_other_copies_nothing_is_lost_and_they_fill_it_anew_by_themselves() -> None:
    said = damaged(DAMAGE)
    assert "n3 cannot start: /data/my disk/n3/journal/0000000001.segment is damaged" in said.what
    assert said.what.endswith("complete copies of all its shards, so nothing is lost")
    assert "they fill it anew by themselves" in said.fix
    assert said.fix.endswith(WAITS.why)


def test_where_they_do_not_the_directory_is_moved_aside() -> None:
    said = damaged(DAMAGE, obstacle=Obstacle("too little room", passes=False))
    assert "so nothing is lost; they do not fill it anew by themselves: too little" in said.what
    assert said.fix.startswith("mv '/data/my disk/n3' '/data/my disk/n3'.damaged: ")


def test_without_them_the_disk_is_kept() -> None:
    said = damaged(DAMAGE, 5, 1, 7, 9)
    assert "no other node has a complete copy of 4 shards (0/1, 0/5, 0/7, …)" in said.what
    assert "mv " not in said.fix
    assert "octad shards recover --all" in said.fix


def test_where_nobody_knows_the_doctor_is_asked() -> None:
    assert "octad doctor tells" in damaged(DAMAGE, known=False).what


def test_what_can_be_repaired_in_place_is() -> None:
    assert "octad index rebuild" in damaged(IndexBehind(DATA, "entries of shard 0/1")).fix


@pytest.mark.parametrize("number", [errno.EIO, errno.ENXIO])
def test_a_failing_disk_gets_a_sentence(number: int) -> None:
    said = cannot_start(N3, DATA, OSError(number, os.strerror(number), "/data/n3/LOCK"))
    assert f"the disk under {DATA} fails (/data/n3/LOCK: {os.strerror(number)})" in said.what
    assert "Errno" not in str(said)
    assert said.fix.startswith("replace the disk, or mv ")


def test_a_full_disk_gets_one_too() -> None:
    said = cannot_start(N3, DATA, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert said.what == f"n3 cannot start: the disk under {DATA} is full; what is on it is intact"
    assert said.fix.startswith("make room there")


def test_what_is_no_fault_of_the_disk_is_not_blamed_on_it() -> None:
    said = cannot_start(None, DATA, OSError(errno.EADDRINUSE, "Address already in use"))
    assert "fails" not in said.what
    assert "Address already in use" in said.what


def test_a_running_node_says_what_became_of_acknowledged_writes() -> None:
    said = cannot_go_on(N3, DATA, OSError(errno.EIO, "Input/output error"))
    assert said.what.startswith("n3 cannot go on: Input/output error; what it has acknowledged")


def test_an_error_whose_words_say_nothing_is_named() -> None:
    assert cannot_go_on(N3, DATA, KeyError(17)).what.startswith("n3 cannot go on: KeyError: 17;")
