"""The errors of a journal, one class for each different reaction of a caller."""

from __future__ import annotations

from pathlib import Path

from octad.client.runtime.shown_command import shown_command


class JournalDamage(Exception):
    """Base of what makes a journal unreadable from some place on.

    `fix` repairs the directory itself; where there is none, other copies have to.
    """

    others_may_fill = True  # The node anew, where nothing repairs it here.

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(f"{what}; {fix}" if fix else what)
        self.what = what
        self.fix = fix
        if fix:
            self.others_may_fill = False


class CorruptRecord(JournalDamage):
    """Durable bytes have changed. The record is repaired from a member, never served."""

    def __init__(self, file: Path, offset: int, why: str) -> None:
        super().__init__(f"{file} is damaged at offset {offset}: {why}")
        self.file = file
        self.offset = offset
        self.why = why


class UnreadableRecord(CorruptRecord):
    """The disk refuses to read `length` bytes: never taken for a torn tail, and it may pass."""

    others_may_fill = False  # The disk is to be replaced.

    def __init__(self, file: Path, offset: int, why: str, length: int = 0) -> None:
        super().__init__(file, offset, why)
        self.length = length


class WrittenByNewer(CorruptRecord):
    """The journal is intact, but this octad cannot read it."""

    others_may_fill = False

    def __init__(self, file: Path, offset: int, why: str) -> None:
        super().__init__(file, offset, why)
        self.what = f"{file} cannot be read from offset {offset} on: {why}"
        self.fix = "install the octad that wrote it, or a newer one"


class SegmentMissing(JournalDamage):
    """A segment that the journal or the index speaks of is not in the directory."""

    def __init__(self, file: Path, why: str) -> None:
        super().__init__(f"{file} is missing: {why}")
        self.file = file


class IndexBehind(JournalDamage):
    """The index does not show entries that the journal has given up: it is older, or was lost."""

    def __init__(self, data: Path, lacks: str) -> None:
        super().__init__(
            f"the index in {data} is older than the journal beside it, or was lost: it lacks "
            f"{lacks}, compacted away since",
            f"run `{shown_command('octad', 'index', 'rebuild', data)}` to make it anew from the"
            " journal",
        )


class DamagedNote(JournalDamage):
    """The note of retired segments is not what octad wrote."""

    def __init__(self, file: Path, why: str) -> None:
        super().__init__(f"{file} is damaged ({why})")
        self.file = file


class ForeignSegment(JournalDamage):
    """A segment of another cluster, node or incarnation lies in the directory."""

    def __init__(self, file: Path, theirs: str, ours: str) -> None:
        super().__init__(f"{file} belongs to {theirs}, this is {ours}", "move that file away")
        self.file = file


class JournalFailed(Exception):
    """A write or a sync failed: what is durable is not known, so nothing is appended any more."""


class JournalFull(Exception):
    """The disk has no room for another segment. Nothing was appended; room made later is used."""


class SegmentNotReady(JournalFull):
    """There is room, but the disk is slow: another segment will be there in a moment."""
