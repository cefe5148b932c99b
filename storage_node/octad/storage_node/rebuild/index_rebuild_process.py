"""`python -m …index_rebuild_process DIR RESULT`: makes the index of a node that goes on running.

It is led by `index_repair.py` through its standard input, and ends when that is closed.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from io import FileIO
from pathlib import Path
from queue import SimpleQueue

import msgspec

from octad.storage_node.index.counted_index import CountedIndex
from octad.storage_node.index.index import IndexDamage, IndexDamaged, IndexFailed
from octad.storage_node.journal.data_directory import read_superblock
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.journal_errors import JournalDamage
from octad.storage_node.journal.record_format import Identity
from octad.storage_node.rebuild.index_rebuild import IndexRebuild
from octad.storage_node.rebuild.index_repair import (
    DAMAGED,
    NOT_FOR_OTHERS,
    REBUILDING,
    Asked,
    Round,
)

_NICER = 5  # Nicer than the node, which serves meanwhile.


def main(data: Path, result: Path) -> int:
    """Returns 0 when the index at `result` is complete and durable.

    DAMAGED, NOT_FOR_OTHERS: it will never be.
    """
    os.nice(_NICER)
    disk = Disk()
    superblock = read_superblock(disk, data)
    assert superblock is not None, f"{data} is a node's data directory"
    shutil.rmtree(data / REBUILDING, ignore_errors=True)
    asked = _asked()
    try:
        index = CountedIndex(data / REBUILDING)
        identity = Identity(superblock.cluster, superblock.node, superblock.incarnation)
        rebuilding = IndexRebuild(disk, data / "journal", identity, index)
        while True:
            this = asked.get()
            records = rebuilding.read_on(this.until)
            if this.last:
                rebuilding.finish()
                break
            _say(records)
        index.close()
        disk.rename(data / REBUILDING, result)
        disk.sync_directory(data)
    except JournalDamage as error:
        print(error, file=sys.stderr)
        return DAMAGED if error.others_may_fill else NOT_FOR_OTHERS
    except (IndexFailed, IndexDamage, IndexDamaged, OSError) as error:
        print(error, file=sys.stderr)
        return os.EX_TEMPFAIL
    _say(records)
    return 0


def _asked() -> SimpleQueue[Asked]:
    """Reads standard input in a thread, because the node may end in the middle of it."""
    asked: SimpleQueue[Asked] = SimpleQueue()

    def listen() -> None:
        # A buffered reader's lock would be held when the process ends, which Python dies of.
        for line in FileIO(sys.stdin.fileno(), closefd=False):
            asked.put(msgspec.json.decode(line, type=Asked))
        os._exit(1)

    threading.Thread(target=listen, name="octad-led", daemon=True).start()
    return asked


def _say(records: int) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(Round(records)) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
