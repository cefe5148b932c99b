"""What `octad dev` compares with what it finds in its data directory: what must agree, no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from octad.client.runtime.command import CommandError
from octad.storage_node.dev.dev_directory import CLUSTER_FILE, DevDirectory
from octad.storage_node.journal.data_directory import SUPERBLOCK_NAME

OLD, NEW = ("http://etcd-1:2379",), ("http://etcd-2:2379", "http://etcd-3:2379")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DevDirectory]:
    opened = DevDirectory(tmp_path, fresh=False)
    yield opened
    opened.close()


def test_etcd_may_be_elsewhere_now_which_is_kept_once_it_proved_to_be_it(
    directory: DevDirectory,
) -> None:
    directory.cluster(3, 3, None, OLD)
    moved = directory.cluster(None, None, None, NEW)
    assert moved.etcd == NEW
    assert directory.cluster(None, None, None, ()).etcd == OLD
    directory.write_cluster(moved)
    assert directory.cluster(None, None, None, ()).etcd == NEW


@pytest.mark.parametrize(
    ("nodes", "replicas", "etcd", "fix"),
    [
        (2, None, (), "give --nodes 3 or more"),
        (None, 2, (), "leave --replicas out"),
        (None, None, OLD, "leave --etcd out"),
    ],
)
def test_what_was_chosen_for_good_is_named(
    directory: DevDirectory,
    nodes: int | None,
    replicas: int | None,
    etcd: tuple[str, ...],
    fix: str,
) -> None:
    directory.cluster(3, 3, None, ())
    with pytest.raises(CommandError) as refused:
        directory.cluster(nodes, replicas, None, etcd)
    assert refused.value.fix.startswith(fix)


def test_a_description_that_makes_no_sense_says_that_the_data_is_intact(
    directory: DevDirectory,
) -> None:
    (directory.path / CLUSTER_FILE).write_text("{")
    with pytest.raises(CommandError, match=r"the data beside it is intact"):
        directory.cluster(None, None, None, ())


def test_a_description_that_cannot_be_read_is_named(directory: DevDirectory) -> None:
    (directory.path / CLUSTER_FILE).symlink_to("/proc/self/mem")
    with pytest.raises(CommandError, match=r"cannot read .*cluster.json: Input/output error"):
        directory.cluster(None, None, None, ())


def test_it_knows_whether_a_node_ever_ran_there(directory: DevDirectory) -> None:
    (directory.path / "n2").mkdir()
    assert not directory.holds_data()
    (directory.path / "n2" / SUPERBLOCK_NAME).touch()
    assert directory.holds_data()
