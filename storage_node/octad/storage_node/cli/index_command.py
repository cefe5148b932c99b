"""`octad index rebuild DIR`: make a stopped node's index anew from its journal alone."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from octad.client.runtime.command import CommandError
from octad.client.runtime.private_files import keep_files_private

if TYPE_CHECKING:
    from octad.storage_node.journal.data_directory import DataDirectory
    from octad.storage_node.journal.disk import Disk
    from octad.storage_node.rebuild.index_rebuild import Rebuilt

_NEW, _OLD = "index.rebuilding", "index.replaced"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["rebuild"])
    parser.add_argument("directory", type=Path, metavar="DIR", help="a node's data directory")


def run(arguments: argparse.Namespace) -> int:
    from octad.storage_node.index.index import IndexFailed
    from octad.storage_node.journal.data_directory import (
        DataDirectory,
        DataDirectoryError,
        read_superblock,
    )
    from octad.storage_node.journal.disk import Disk
    from octad.storage_node.journal.journal_errors import JournalDamage

    keep_files_private()
    disk, path = Disk(), arguments.directory
    try:
        superblock = read_superblock(disk, path) if path.is_dir() else None
        if superblock is None:
            raise CommandError(f"{path} is not a node's data directory", "name one (octad-data/n1)")
        directory = DataDirectory.open(path, superblock.cluster)
        try:
            rebuilt = _rebuild(disk, directory)
        finally:
            directory.close()
    except DataDirectoryError as error:
        raise CommandError(error.what, error.fix) from error
    except IndexFailed as error:
        raise CommandError(str(error), "the old index was left as it was") from error
    except JournalDamage as error:
        raise CommandError(str(error), "the index was left as it is") from error
    print(
        f"{rebuilt.records} records of {rebuilt.shards} shards read, "
        f"{rebuilt.live_bytes} bytes live; the old index is in {path / _OLD} and can be removed"
    )
    return 0


def _rebuild(disk: Disk, directory: DataDirectory) -> Rebuilt:
    """Build beside the old index, which is replaced only by a complete new one."""
    from octad.storage_node.index.counted_index import CountedIndex
    from octad.storage_node.rebuild.index_rebuild import rebuild
    from octad.storage_node.rebuild.index_repair import forget_damage

    new, old = directory.path / _NEW, directory.path / _OLD
    shutil.rmtree(new, ignore_errors=True)
    index = CountedIndex(new)
    try:
        rebuilt = rebuild(disk, directory.journal, directory.identity, index)
    finally:
        index.close()
    if directory.index.exists():
        shutil.rmtree(old, ignore_errors=True)
        disk.rename(directory.index, old)
    disk.rename(new, directory.index)
    disk.sync_directory(directory.path)
    forget_damage(disk, directory.path)
    return rebuilt
