"""The next segment is there when it is needed, whatever became of the file it was to be made of."""

from __future__ import annotations

from pathlib import Path

from tests.unit.journal.journal_site import IDENTITY

from octad.sharding.limits import MIB
from octad.storage_node.journal.disk import Disk
from octad.storage_node.journal.record_format import SegmentId
from octad.storage_node.journal.segment_file import create_segment, segment_path, spare_segment
from octad.storage_node.journal.segment_preparer import SegmentPreparer

WAIT_S = 30.0


def test_a_spare_file_that_is_gone_keeps_no_segment_away(tmp_path: Path) -> None:
    disk = Disk()
    create_segment(disk, tmp_path, SegmentId(1), IDENTITY, MIB).close()
    spare = spare_segment(disk, tmp_path, SegmentId(1))
    preparer = SegmentPreparer(disk, tmp_path, IDENTITY, MIB)
    assert preparer.spares() == 1
    spare.unlink()
    try:
        preparer.prepare(SegmentId(2))
        file = preparer.take(SegmentId(2), WAIT_S)
        assert file is not None
        file.close()
    finally:
        preparer.close()
    assert segment_path(tmp_path, SegmentId(2)).stat().st_size == MIB
