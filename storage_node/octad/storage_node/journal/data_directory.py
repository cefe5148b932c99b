"""A node's data directory: whose it is, in which format, and that one process at a time has it.

    DIR/LOCK              flock-ed while a process has the directory; holds that process's id, the
                          file's own number on its file system, and a checksum of the two
    DIR/superblock.json   {"format_version", "cluster", "node", "incarnation", "run",
                           "checksum"}
    DIR/superblock.copy   the same once more, written before it: takes its place if it is damaged
    DIR/journal/          the journal's segments
    DIR/index/            the index, which the journal can rebuild
    DIR/set-aside-…/      all of that of an earlier node here, whose journal was damaged

The superblock is written when the node has an id, and with the number of each run before that run
does anything; it appears complete or not at all. An error says what is wrong and what repairs it;
nothing has been changed in the directory then.

A copy that was made while a node was running lacks what the node has acknowledged since, and parts
of it are older than others: it must never take the node's place. It is known by its LOCK, which
holds the number of another file. A node that stops empties that file, so a copy made then is good
until the node runs again: from then on the cluster knows of a later run than the copy does.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path

import msgspec
from xxhash import xxh3_64_hexdigest

from octad.client.runtime.shown_command import shown_path
from octad.sharding.ids import NodeId, node_name
from octad.sharding.limits import DISK_FREE_BYTES_MIN, MIB
from octad.storage_node.journal import set_aside
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.record_format import Identity

FORMAT_VERSION = 1
LOCK_NAME = "LOCK"
SUPERBLOCK_NAME = "superblock.json"
COPY_NAME = "superblock.copy"
_TEMPORARY_NAME = "superblock.json.new"
_JOURNAL_NAME = "journal"
_HARMLESS = {LOCK_NAME, _TEMPORARY_NAME, "lost+found", ".DS_Store"}
_INCARNATION_BYTES = 16
_LOCK_BYTES_MAX = 64

log = logging.getLogger(__name__)


class DataDirectoryError(Exception):
    """The directory cannot be used. `what` is wrong, `fix` repairs it."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}; {fix}")
        self.what = what
        self.fix = fix


class AnotherCluster(DataDirectoryError):
    """The directory holds the data of a node of another cluster."""


class AnotherNode(DataDirectoryError):
    """The directory holds the data of another node of this cluster."""


class NewerFormat(DataDirectoryError):
    """A newer octad has written it."""


class DamagedSuperblock(DataDirectoryError):
    """Its superblock is not what octad wrote."""


class ForeignDirectory(DataDirectoryError):
    """The directory is not empty and not octad's."""


class Locked(DataDirectoryError):
    """Another process has it."""


class CopiedWhileRunning(DataDirectoryError):
    """The directory is a copy, made while a process had the original open."""


class RolledBack(DataDirectoryError):
    """The directory is an older copy: the node has run on another one since."""


class NotADirectory(DataDirectoryError):
    """Something else has the name."""


class NoPermission(DataDirectoryError):
    """The user may not write there."""


class ReadOnly(DataDirectoryError):
    """The file system is mounted read-only."""


class TooLittleSpace(DataDirectoryError):
    """The disk has no room for a journal."""


class Superblock(msgspec.Struct, frozen=True):
    """The content of `superblock.json`."""

    format_version: int
    cluster: str
    node: NodeId
    incarnation: str
    run: int = 0  # How many times a node was started on it.
    checksum: str = ""  # xxh3_64 of the other fields, in hex. Older versions wrote none.


class _Version(msgspec.Struct):
    """The fields that every format has, read before any other."""

    format_version: int
    checksum: str = ""


class DataDirectory:
    """A directory that this process has locked; `close` lets others have it."""

    def __init__(self, path: Path, disk: Disk, lock: int, superblock: Superblock | None) -> None:
        self.path = path
        self._disk = disk
        self._lock = lock
        self._superblock = superblock

    @classmethod
    def open(
        cls, path: Path, cluster: str, node: NodeId | None = None, disk: Disk | None = None
    ) -> DataDirectory:
        """Lock `path`, made when absent, for `node` (None: any) of `cluster`."""
        disk = disk or Disk()
        try:
            if LOCK_NAME not in _names(disk, path):  # A refused directory is left unchanged.
                _checked_superblock(disk, path, cluster, node)
            disk.make_directory(path)
            lock = _locked(disk, path)
            try:
                superblock = _checked_superblock(disk, path, cluster, node)
                _check_original(disk, path, lock)
                if superblock is not None:
                    _repair_superblock(disk, path, superblock)
                if superblock is not None and set_aside.is_decided(path, superblock.incarnation):
                    incarnation = superblock.incarnation
                    set_aside.carry_out(disk, path, incarnation, SUPERBLOCK_NAME, _HARMLESS)
                    superblock = None
                _mark_in_use(disk, lock)
                disk.close_to_others(path)
            except BaseException:
                disk.close(lock)
                raise
        except OSError as error:
            raise explained(path, error) from error
        return cls(path, disk, lock, superblock)

    @property
    def journal(self) -> Path:
        return self.path / _JOURNAL_NAME

    @property
    def index(self) -> Path:
        return self.path / "index"

    @property
    def identity(self) -> Identity | None:
        """The superblock; None until `initialize`, in a new directory."""
        known = self._superblock
        return None if known is None else Identity(known.cluster, known.node, known.incarnation)

    @property
    def run(self) -> int:
        """The number of the latest run; 0 before the first."""
        return 0 if self._superblock is None else self._superblock.run

    def initialize(self, cluster: str, node: NodeId, incarnation: str) -> Identity:
        """Say for good whose directory this is, durably."""
        assert self.identity is None
        assert len(bytes.fromhex(incarnation)) == _INCARNATION_BYTES
        self._write(Superblock(FORMAT_VERSION, cluster, node, incarnation))
        return Identity(cluster, node, incarnation)

    def begin_run(self, seen: int) -> None:
        """Number this run, durably. Raises RolledBack where the cluster has `seen` a later one."""
        assert self._superblock is not None
        if self.run < seen:
            raise RolledBack(
                f"{self.path} is an older copy: it is as of run {self.run} of this node, the "
                f"cluster has seen run {seen}, and what was acknowledged since is missing here",
                "put the newer directory back, or move this one away and let the node join as a "
                "new one: the others have its data",
            )
        self._write(msgspec.structs.replace(self._superblock, run=self.run + 1))

    def _write(self, superblock: Superblock) -> None:
        superblock = msgspec.structs.replace(
            superblock, checksum=_checksum(msgspec.structs.asdict(superblock))
        )
        try:
            for name in (COPY_NAME, SUPERBLOCK_NAME):
                _write_durably(self._disk, self.path, name, _encoded(superblock))
            self._disk.sync_directory(self.path.parent)
        except OSError as error:
            raise explained(self.path, error) from error
        self._superblock = superblock

    def close(self) -> None:
        """Unlock, and note that copies made from now on get all of it."""
        try:
            with suppress(OSError):  # If the note fails, copies are refused: that is safe.
                self._disk.truncate(self._lock, 0)
        finally:
            self._disk.close(self._lock)


def new_incarnation() -> str:
    """A name for this use of the disk that no other ever had."""
    return secrets.token_hex(_INCARNATION_BYTES)


def read_superblock(disk: Disk, path: Path) -> Superblock | None:
    """The superblock in `path`, by whichever file is intact; None where there is none.

    Raises OSError, DataDirectoryError.
    """
    content = _content(disk, path / SUPERBLOCK_NAME)
    if content is None and _JOURNAL_NAME not in _names(disk, path):
        return None  # A copy alone speaks for nothing.
    try:
        found = None if content is None else _decoded(path, content)
    except DamagedSuperblock:
        found = _intact_copy(disk, path)
        if found is None:
            raise
    return found or _intact_copy(disk, path)


def _intact_copy(disk: Disk, path: Path) -> Superblock | None:
    content = _content(disk, path / COPY_NAME)
    try:
        return None if content is None else _decoded(path, content)
    except DamagedSuperblock:
        return None


def _repair_superblock(disk: Disk, path: Path, known: Superblock) -> None:
    """`known` is the copy where the file itself is damaged or gone: put it there."""
    content = _content(disk, path / SUPERBLOCK_NAME)
    try:
        intact = content is not None and _decoded(path, content) == known
    except DamagedSuperblock:
        intact = False
    if not intact:
        log.warning("%s was damaged: its copy takes its place", path / SUPERBLOCK_NAME)
        _write_durably(disk, path, SUPERBLOCK_NAME, _encoded(known))


def _write_durably(disk: Disk, path: Path, name: str, content: bytes) -> None:
    temporary = path / _TEMPORARY_NAME
    descriptor = disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        disk.write(descriptor, [content], 0)
        disk.sync(descriptor)
    finally:
        disk.close(descriptor)
    disk.rename(temporary, path / name)
    disk.sync_directory(path)


def _content(disk: Disk, file: Path) -> bytes | None:
    try:
        descriptor = disk.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return disk.read(descriptor, disk.size(descriptor), 0)
    finally:
        disk.close(descriptor)


def _decoded(path: Path, content: bytes) -> Superblock:
    try:
        known = msgspec.json.decode(content, type=_Version)
        if known.checksum not in ("", _checksum(msgspec.json.decode(content))):
            raise msgspec.DecodeError("its checksum does not match")
        if known.format_version > FORMAT_VERSION:
            raise NewerFormat(
                f"{path} has format {known.format_version}, this octad knows {FORMAT_VERSION}",
                "install the octad that wrote it, or a newer one",
            )
        return msgspec.json.decode(content, type=Superblock)
    except msgspec.DecodeError as error:
        raise DamagedSuperblock(
            f"{path / SUPERBLOCK_NAME} is damaged ({error})",
            "put the file back; only if other nodes have all that is here (octad doctor tells),"
            " move the directory away: the node then joins as a new one",
        ) from error


def _encoded(superblock: Superblock) -> bytes:
    return msgspec.json.format(msgspec.json.encode(superblock), indent=2) + b"\n"


def _checksum(fields: dict[str, object]) -> str:
    """In every format: the hash of all fields in order, as compact JSON, with this one empty."""
    return xxh3_64_hexdigest(msgspec.json.encode({**fields, "checksum": ""}))


def _checked_superblock(
    disk: Disk, path: Path, cluster: str, node: NodeId | None
) -> Superblock | None:
    superblock = read_superblock(disk, path)
    if superblock is None:
        _check_new(disk, path)
        return None
    if superblock.cluster != cluster:
        raise AnotherCluster(
            f"{path} belongs to cluster {superblock.cluster}, not to {cluster}",
            "name another directory with --data, or use that cluster's join token",
        )
    if node is not None and superblock.node != node:
        raise AnotherNode(
            f"{path} belongs to node {node_name(superblock.node)}, not to {node_name(node)}",
            "name that node's own directory with --data",
        )
    return superblock


def _check_new(disk: Disk, path: Path) -> None:
    aside = {each.name for each in set_aside.places(path)}
    foreign = sorted(set(_names(disk, path)) - _HARMLESS - aside)
    if _JOURNAL_NAME in foreign:
        raise DamagedSuperblock(
            f"{path} has a node's journal, and its {SUPERBLOCK_NAME} is gone",
            "put the file back, or move the directory away and let the node join as a new one: "
            "the others have its data",
        )
    if foreign:
        raise ForeignDirectory(
            f"{path} is not empty ({foreign[0]} is in it) and has no {SUPERBLOCK_NAME}",
            "name an empty or a new directory with --data",
        )
    free = _free_bytes(disk, path)
    if free < DISK_FREE_BYTES_MIN:
        raise TooLittleSpace(
            f"{path} has {free // MIB} MiB free, a node needs {DISK_FREE_BYTES_MIN // MIB}",
            "make room, or name a directory on another disk with --data",
        )


def _names(disk: Disk, path: Path) -> list[str]:
    """Returns the entries of `path`; it need not exist yet."""
    try:
        return disk.names(path)
    except FileNotFoundError:
        return []


def _free_bytes(disk: Disk, path: Path) -> int:
    """Free bytes where `path` is, or will be created."""
    try:
        return disk.free_bytes(path)
    except FileNotFoundError:
        if path == path.parent:
            raise
        return _free_bytes(disk, path.parent)


def _locked(disk: Disk, path: Path) -> int:
    descriptor = disk.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT)
    try:
        if not disk.try_lock(descriptor):
            holder = (_lock_fields(disk, descriptor) or ["?"])[0]
            raise Locked(
                f"{path} is in use by process {holder}",
                f"stop it (kill {holder}) or name another directory with --data",
            )
    except BaseException:
        disk.close(descriptor)
        raise
    return descriptor


def _check_original(disk: Disk, path: Path, lock: int) -> None:
    """A killed process leaves its mark in the file that it made it in: that one is no copy."""
    if _original(disk, lock) not in (None, disk.file_number(lock)):
        raise CopiedWhileRunning(
            f"{path} is a copy, and a node was running on the original when it was made "
            f"({path / LOCK_NAME} says so): what it acknowledged may be missing here",
            "stop the node and copy its directory again, or move this one away and let the node "
            f"join as a new one; remove {path / LOCK_NAME} only if no node has run on the original "
            "since (it had been killed before the copy was made)",
        )


def _mark_in_use(disk: Disk, lock: int) -> None:
    disk.truncate(lock, 0)
    mark = f"{os.getpid()} {disk.file_number(lock)}"
    disk.write(lock, [f"{mark} {xxh3_64_hexdigest(mark.encode())}\n".encode()], 0)


def _original(disk: Disk, lock: int) -> int | None:
    """The number of the file in which the mark was made; None where none is, or it is damaged.

    What is damaged proves nothing: a directory that is in order is not given up for it.
    """
    text = disk.read(lock, _LOCK_BYTES_MAX, 0).decode("ascii", "replace")
    mark, _, checksum = text.rstrip("\n").rpartition(" ")
    if " " not in mark:  # Older versions wrote no checksum.
        mark, checksum = text.rstrip("\n"), ""
    if not text.endswith("\n") or checksum not in ("", xxh3_64_hexdigest(mark.encode())):
        return None
    number = mark.partition(" ")[2]
    return int(number) if number.isdecimal() else None


def _lock_fields(disk: Disk, lock: int) -> list[str]:
    """The process that has it, and more; empty when no one has it."""
    return disk.read(lock, _LOCK_BYTES_MAX, 0).decode("ascii", "replace").split()


def explained(path: Path, error: OSError) -> Exception:
    """The error that a user can act on, or `error` itself where octad knows nothing better."""
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return NoPermission(
                f"no permission to write to {error.filename or path}",
                f"run `sudo chown -R $(id -u) {shown_path(path)}`, or name another directory with"
                " --data",
            )
        case errno.EROFS:
            return ReadOnly(
                f"{path} is on a file system that is mounted read-only",
                f"run `mount -o remount,rw` on it, or name another directory with --data ({error})",
            )
        case errno.ENOTDIR | errno.EEXIST | errno.ELOOP:
            return NotADirectory(_what_is_there(path), "name a directory with --data")
        case errno.ENOSPC | errno.EDQUOT:
            return TooLittleSpace(
                f"the disk of {path} is full",
                "make room, or name a directory on another disk with --data",
            )
    return error


def _what_is_there(path: Path) -> str:
    """Why there can be no directory `path`."""
    for above in (*reversed(path.parents), path):
        if above.is_symlink() and not above.exists():
            return f"{above} is a link that leads nowhere"
        if above.exists() and not above.is_dir():
            below = "" if above == path else f": there can be no {path}"
            return f"{above} is a file, not a directory{below}"
    return f"{path} is not a directory"
