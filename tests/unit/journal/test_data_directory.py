"""A data directory is one node's, for one process at a time, and says what is wrong with it."""

from __future__ import annotations

import errno
import json
import shutil
import stat
import subprocess
import sys
from contextlib import closing, nullcontext
from pathlib import Path

import pytest
from tests.harness.watched_disk import WatchedDisk

from octad.sharding.ids import NodeId
from octad.storage_node.journal import data_directory
from octad.storage_node.journal.data_directory import DataDirectory, new_incarnation
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.record_format import Identity

CLUSTER, NODE = "0123abcd", NodeId(3)
INCARNATION = "00112233445566778899aabbccddeeff"


def initialized(path: Path) -> Path:
    directory = DataDirectory.open(path, CLUSTER)
    directory.initialize(CLUSTER, NODE, INCARNATION)
    directory.close()
    return path


def test_a_new_directory_gets_an_identity_and_keeps_it(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path / "data" / "n3", CLUSTER)
    assert directory.identity is None
    identity = directory.initialize(CLUSTER, NODE, INCARNATION)
    directory.close()
    again = DataDirectory.open(tmp_path / "data" / "n3", CLUSTER, NODE)
    assert again.identity == identity == Identity(CLUSTER, NODE, INCARNATION)
    again.close()


def test_the_superblock_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    disk = WatchedDisk()
    directory = DataDirectory.open(tmp_path, CLUSTER, disk=disk)
    before = len(disk.calls)
    directory.initialize(CLUSTER, NODE, INCARNATION)
    written: list[str] = []
    for name in ("superblock.copy", "superblock.json"):
        written += [
            "create superblock.json.new",
            "write superblock.json.new",
            "sync superblock.json.new",
            f"rename superblock.json.new {name}",
            f"sync_directory {tmp_path.name}",
        ]
    assert disk.calls[before:] == [*written, f"sync_directory {tmp_path.parent.name}"]
    directory.close()


def test_a_crash_while_the_superblock_is_made_leaves_a_new_directory(tmp_path: Path) -> None:
    (tmp_path / "superblock.json.new").write_text("{")
    directory = DataDirectory.open(tmp_path, CLUSTER)
    assert directory.identity is None
    directory.close()


def test_incarnations_differ() -> None:
    assert new_incarnation() != new_incarnation()


def test_a_directory_of_another_cluster_is_refused(tmp_path: Path) -> None:
    with pytest.raises(data_directory.AnotherCluster, match="0123abcd, not to ffffffff; name"):
        DataDirectory.open(initialized(tmp_path), "ffffffff")


def test_a_directory_of_another_node_is_refused(tmp_path: Path) -> None:
    with pytest.raises(data_directory.AnotherNode, match="belongs to node n3, not to n4"):
        DataDirectory.open(initialized(tmp_path), CLUSTER, NodeId(4))


def test_a_directory_of_a_newer_format_is_refused_whatever_else_it_says(tmp_path: Path) -> None:
    (tmp_path / "superblock.json").write_text('{"format_version": 2, "new": "things"}')
    with pytest.raises(data_directory.NewerFormat, match="format 2, this octad knows 1; install"):
        DataDirectory.open(tmp_path, CLUSTER)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format_version": 1, "cluster": "0123abcd"}'])
def test_a_damaged_superblock_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "superblock.json").write_text(content)
    with pytest.raises(data_directory.DamagedSuperblock, match=r"superblock\.json is damaged"):
        DataDirectory.open(tmp_path, CLUSTER)


def test_a_directory_with_other_files_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(data_directory.ForeignDirectory, match=r"thesis\.txt is in it"):
        DataDirectory.open(tmp_path, CLUSTER)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_any_bit_that_flips_in_the_superblock_is_damage_and_nothing_else(tmp_path: Path) -> None:
    """Its fields say who the node is: no one is to be told to fix a join token for that."""
    path = initialized(tmp_path) / "superblock.json"
    with closing(DataDirectory.open(tmp_path, CLUSTER)) as directory:
        directory.begin_run(0)
    content = path.read_bytes()
    (tmp_path / "superblock.copy").unlink()
    name = range(content.index(b'"checksum"'), content.index(b'"checksum"') + len('"checksum'))
    for at in sorted({*range(len(content))} - {*name}):  # Without it, it is an older octad's.
        for bit in range(8):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
            with pytest.raises(data_directory.DamagedSuperblock, match="is damaged"):
                DataDirectory.open(tmp_path, CLUSTER)
    path.write_bytes(content)
    DataDirectory.open(tmp_path, CLUSTER).close()


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_superblock_is_repaired_from_its_copy(tmp_path: Path, damage: str) -> None:
    path = initialized(tmp_path) / "superblock.json"
    (tmp_path / "journal").mkdir()
    with closing(DataDirectory.open(tmp_path, CLUSTER)) as directory:
        directory.begin_run(0)
        run = directory.run
    content = path.read_bytes()
    match damage:
        case "flipped":
            path.write_bytes(content.replace(b"3", b"7"))
        case "cut":
            path.write_bytes(content[:-20])
        case _:
            path.unlink()
    with closing(DataDirectory.open(tmp_path, CLUSTER)) as directory:
        assert directory.identity == Identity(CLUSTER, NODE, INCARNATION)
        assert directory.run == run
    assert path.read_bytes() == content
    (tmp_path / "superblock.copy").write_bytes(b"")
    DataDirectory.open(tmp_path, CLUSTER).close()


def test_the_copy_is_never_older_than_the_superblock(tmp_path: Path) -> None:
    path = initialized(tmp_path)
    for time in (1, 2):
        disk = WatchedDisk()
        directory = DataDirectory.open(path, CLUSTER, disk=disk)
        disk.fail_at("rename", time, errno.EIO)
        with closing(directory), pytest.raises(OSError, match="Input/output"):
            directory.begin_run(directory.run)
        runs = [
            json.loads((path / name).read_bytes())["run"]
            for name in ("superblock.json", "superblock.copy")
        ]
        assert runs == [0, time - 1]


def test_a_copy_without_anything_else_speaks_for_nothing(tmp_path: Path) -> None:
    (initialized(tmp_path) / "superblock.json").unlink()
    with pytest.raises(data_directory.ForeignDirectory, match=r"superblock\.copy is in it"):
        DataDirectory.open(tmp_path, CLUSTER)


def test_a_superblock_of_an_octad_that_wrote_no_checksum_is_read(tmp_path: Path) -> None:
    path = initialized(tmp_path) / "superblock.json"
    fields = json.loads(path.read_text())
    del fields["checksum"]
    path.write_text(json.dumps(fields))
    DataDirectory.open(tmp_path, CLUSTER).close()


def test_a_directory_that_has_lost_its_superblock_is_no_strangers(tmp_path: Path) -> None:
    (initialized(tmp_path) / "superblock.json").unlink()
    (tmp_path / "superblock.copy").unlink()
    (tmp_path / "journal").mkdir()
    with pytest.raises(data_directory.DamagedSuperblock, match="is gone; put the file back, or"):
        DataDirectory.open(tmp_path, CLUSTER)


def test_a_second_process_is_told_who_has_the_directory(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from octad.storage_node.journal.data_directory import DataDirectory\n"
        f"directory = DataDirectory.open(Path(sys.argv[1]), {CLUSTER!r})\n"
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(initialized(tmp_path))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(data_directory.Locked, match=f"in use by process {holder.pid}; stop it"):
            DataDirectory.open(tmp_path, CLUSTER)
        holder.communicate("")
    DataDirectory.open(tmp_path, CLUSTER).close()


def test_a_copy_that_was_made_while_a_process_had_the_directory_is_refused(tmp_path: Path) -> None:
    running = DataDirectory.open(initialized(tmp_path / "n3"), CLUSTER)
    copy = Path(shutil.copytree(tmp_path / "n3", tmp_path / "copy"))
    running.close()
    for _ in range(2):  # To be told so changes nothing.
        with pytest.raises(data_directory.CopiedWhileRunning) as refused:
            DataDirectory.open(copy, CLUSTER)
    assert f"{copy} is a copy" in refused.value.what
    assert f"({copy / 'LOCK'} says so)" in refused.value.what
    assert "stop the node and copy its directory again" in refused.value.fix
    (copy / "LOCK").unlink()  # As the message says, for those who know better.
    DataDirectory.open(copy, CLUSTER).close()


def test_a_damaged_mark_of_a_killed_process_makes_no_copy_of_its_directory(tmp_path: Path) -> None:
    lock = initialized(tmp_path) / "LOCK"
    running = DataDirectory.open(tmp_path, CLUSTER)
    mark = lock.read_bytes()
    running.close()
    cuts = [mark[:end] for end in range(len(mark))]
    flips = [
        mark[:at] + bytes([mark[at] ^ 1 << bit]) + mark[at + 1 :]
        for at in range(len(mark))
        for bit in range(8)
    ]
    for damaged in (mark, *cuts, *flips):
        lock.write_bytes(damaged)
        DataDirectory.open(tmp_path, CLUSTER).close()


def test_the_mark_of_an_older_octad_tells_a_copy_too(tmp_path: Path) -> None:
    lock = initialized(tmp_path) / "LOCK"
    for number, refused in ((lock.stat().st_ino, False), (lock.stat().st_ino + 1, True)):
        lock.write_text(f"4711 {number}\n")
        with pytest.raises(data_directory.CopiedWhileRunning) if refused else nullcontext():
            DataDirectory.open(tmp_path, CLUSTER).close()


def test_a_copy_of_a_stopped_nodes_directory_is_as_good_as_it(tmp_path: Path) -> None:
    stopped = initialized(tmp_path / "n3")
    DataDirectory.open(Path(shutil.copytree(stopped, tmp_path / "copy")), CLUSTER).close()


def test_each_run_has_a_number_that_is_on_the_disk_before_it_is_used(tmp_path: Path) -> None:
    initialized(tmp_path)
    for number in (1, 2, 3):
        disk = WatchedDisk()
        directory = DataDirectory.open(tmp_path, CLUSTER, disk=disk)
        before = len(disk.calls)
        directory.begin_run(number - 1)
        assert directory.run == number
        assert "rename superblock.json.new superblock.json" in disk.calls[before:]
        assert disk.calls[-2].startswith("sync_directory")
        directory.close()
    directory = DataDirectory.open(tmp_path, CLUSTER)
    assert directory.run == 3
    directory.close()


def test_an_older_copy_of_a_directory_that_ran_again_is_refused_and_left_as_it_is(
    tmp_path: Path,
) -> None:
    directory = DataDirectory.open(initialized(tmp_path / "n3"), CLUSTER)
    directory.begin_run(0)
    directory.close()
    older = Path(shutil.copytree(tmp_path / "n3", tmp_path / "older"))
    before = (older / "superblock.json").read_bytes()
    directory = DataDirectory.open(older, CLUSTER)
    with pytest.raises(data_directory.RolledBack) as refused:
        directory.begin_run(2)
    assert f"{older} is an older copy: it is as of run 1" in refused.value.what
    assert "put the newer directory back, or move this one away" in refused.value.fix
    assert (older / "superblock.json").read_bytes() == before
    directory.close()


def test_a_directory_of_an_octad_that_did_not_count_runs_begins_with_the_first(
    tmp_path: Path,
) -> None:
    path = initialized(tmp_path) / "superblock.json"
    content = json.loads(path.read_bytes())
    del content["run"]
    path.write_text(json.dumps(content))
    directory = DataDirectory.open(tmp_path, CLUSTER)
    directory.begin_run(0)
    assert directory.run == 1
    directory.close()


def test_a_directory_whose_node_was_killed_is_no_copy_wherever_it_is_moved(tmp_path: Path) -> None:
    killed = initialized(tmp_path / "n3")
    program = (
        "import os, sys; from pathlib import Path\n"
        "from octad.storage_node.journal.data_directory import DataDirectory\n"
        f"directory = DataDirectory.open(Path(sys.argv[1]), {CLUSTER!r}); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(killed)], check=True)
    assert (killed / "LOCK").read_text()
    DataDirectory.open(killed.rename(tmp_path / "elsewhere"), CLUSTER).close()


@pytest.mark.parametrize("content", ["", "123\n", "\x00" * 40])
def test_a_lock_that_says_nothing_is_no_hindrance(tmp_path: Path, content: str) -> None:
    (initialized(tmp_path) / "LOCK").write_text(content)
    DataDirectory.open(tmp_path, CLUSTER).close()


def test_a_file_in_the_directorys_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(data_directory.NotADirectory, match="/file is a file, not a directory"):
            DataDirectory.open(path, CLUSTER)


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(data_directory.NotADirectory, match="/link is a link that leads nowhere"):
        DataDirectory.open(tmp_path / "link", CLUSTER)


def test_nothing_is_left_in_a_directory_that_was_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("mine")
    tmp_path.chmod(0o755)
    with pytest.raises(data_directory.ForeignDirectory):
        DataDirectory.open(tmp_path, CLUSTER)
    others = initialized(tmp_path / "n3")
    (others / "LOCK").unlink()
    for cluster, node in (("ffffffff", None), (CLUSTER, NodeId(4))):
        with pytest.raises(data_directory.DataDirectoryError):
            DataDirectory.open(others, cluster, node)
    assert {path.name for path in tmp_path.iterdir()} == {"holiday.jpg", "n3"}
    assert {path.name for path in others.iterdir()} == {"superblock.json", "superblock.copy"}
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_new_directory_that_is_refused_is_not_made(tmp_path: Path) -> None:
    class FullDisk(Disk):
        def free_bytes(self, path: Path) -> int:
            return super().free_bytes(path) and 1024 * 1024

    with pytest.raises(data_directory.TooLittleSpace):
        DataDirectory.open(tmp_path / "on" / "it", CLUSTER, disk=FullDisk())
    assert not (tmp_path / "on").exists()


def test_what_an_earlier_octad_left_open_to_others_is_closed(tmp_path: Path) -> None:
    path = initialized(tmp_path / "n3")
    (path / "index").mkdir()
    (path / "index" / "000004.sst").write_text("")
    (path / "outside").symlink_to(tmp_path / "outside")
    (tmp_path / "outside").write_text("")
    entries = [path, *path.rglob("*"), tmp_path / "outside"]
    for entry in entries:
        entry.chmod(0o755 if entry.is_dir() else 0o644)
    DataDirectory.open(path, CLUSTER).close()
    modes = {entry.name: oct(stat.S_IMODE(entry.stat().st_mode)) for entry in entries}
    assert modes.pop("outside") == "0o644", "it is somewhere else"
    assert modes == {
        "n3": "0o700",
        "LOCK": "0o600",
        "superblock.json": "0o600",
        "superblock.copy": "0o600",
        "index": "0o700",
        "000004.sst": "0o600",
    }


def test_a_directory_that_belongs_to_another_user_is_served_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = initialized(tmp_path / "a volume")
    (path / "index").mkdir(0o755)
    change = Path.chmod

    def owned(self: Path, mode: int) -> None:
        if self == path:
            raise PermissionError(errno.EPERM, "not yours", str(self))
        change(self, mode)

    path.chmod(0o775)
    monkeypatch.setattr(Path, "chmod", owned)
    DataDirectory.open(path, CLUSTER).close()
    assert stat.S_IMODE((path / "index").stat().st_mode) == 0o700
    assert f"chmod go= '{path}'" in caplog.text


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EACCES, data_directory.NoPermission),
        (errno.EROFS, data_directory.ReadOnly),
        (errno.ENOSPC, data_directory.TooLittleSpace),
    ],
)
def test_a_directory_that_cannot_be_written_says_why(
    tmp_path: Path, number: int, expected: type[data_directory.DataDirectoryError]
) -> None:
    def fail(call: str, file: str) -> None:
        if call == "create":
            raise OSError(number, "no")

    with pytest.raises(expected, match=tmp_path.name) as caught:
        DataDirectory.open(tmp_path, CLUSTER, disk=WatchedDisk(fail))
    assert caught.value.fix


def test_a_new_node_needs_room_and_one_with_data_is_let_in(tmp_path: Path) -> None:
    class FullDisk(Disk):
        def free_bytes(self, path: Path) -> int:
            return 1024 * 1024

    with pytest.raises(data_directory.TooLittleSpace, match="has 1 MiB free, a node needs 256"):
        DataDirectory.open(tmp_path / "new", CLUSTER, disk=FullDisk())
    DataDirectory.open(initialized(tmp_path / "old"), CLUSTER, disk=FullDisk()).close()


def test_the_superblock_is_readable_to_people(tmp_path: Path) -> None:
    content = json.loads((initialized(tmp_path) / "superblock.json").read_text())
    assert content.pop("checksum")
    assert content == {
        "format_version": 1,
        "cluster": CLUSTER,
        "node": 3,
        "incarnation": INCARNATION,
        "run": 0,
    }
