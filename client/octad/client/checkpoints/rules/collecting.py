"""What a collector may take: manifests, pages, pins and data that nothing can need any more.

The order in which it looks is what makes this safe (`collector.py` keeps it): first it lists what
may go, then it reads the heads, then the begins' records, then it deletes manifests, and then it
reads all that are left. Nothing here looks at a clock, but for readers that never said they ended:
a writer has ended when the head names another begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from octad.client.checkpoints.rules.documents import Begin, Head, Manifest
from octad.client.checkpoints.rules.heads import owner
from octad.client.checkpoints.rules.names import JobKey, owner_of

READER_S_MAX: Final = 7 * 86400.0


class Job(NamedTuple):
    """A job as its head says, which was read once."""

    head: Head
    kept: frozenset[str]  # In its pages, too.

    def spares(self, name: str) -> bool:
        """Whether what is named so is of the begin that may be at work."""
        return owner_of(name) == str(owner(self.head))


class Record(NamedTuple):
    """A begin's record."""

    job: str
    owner: str
    begin: Begin


def living(records: Iterable[Record], jobs: Mapping[str, Job]) -> set[tuple[str, str]]:
    """The checkpoints (job, id) that a begin still may read.

    A record whose job was not there when the heads were read is of a begin after that.
    """
    return {
        (base.job, base.id)
        for record in records
        if not is_over(record.job, record.owner, jobs)
        for base in record.begin.bases
    }


def is_over(job: str, record_owner: str, jobs: Mapping[str, Job]) -> bool:
    """Whether the begin of that record was fenced."""
    if job not in jobs:
        return False
    head = jobs[job].head
    return int(record_owner.partition("-")[0]) < head.epoch


def dead_manifests(
    listed: Iterable[JobKey], jobs: Mapping[str, Job], named: set[tuple[str, str]]
) -> list[JobKey]:
    """Those no head keeps, no living record names, and that no begin at work may still commit."""
    return [
        each
        for each in listed
        if each.kind == "manifests"
        and each.name not in jobs[each.job].kept
        and (each.job, each.name) not in named
        and not jobs[each.job].spares(each.name)
    ]


def dead_pages(listed: Iterable[JobKey], jobs: Mapping[str, Job]) -> list[JobKey]:
    return [
        each
        for each in listed
        if each.kind == "pages"
        and each.name not in {page.name for page in jobs[each.job].head.pages}
        and not jobs[each.job].spares(each.name)
    ]


def is_dead_pin(checkpoint: str, job: Job) -> bool:
    """Whether the checkpoint that a pin is named after is no more, and will not be."""
    return checkpoint not in job.kept and not job.spares(checkpoint)


def named_data(manifests: Iterable[Manifest]) -> set[str]:
    return {p.data for each in manifests for file in each.files for p in file.parts}


def dead_data(listed: Iterable[str], jobs: Iterable[Job], named: set[str]) -> list[str]:
    """Of the names of data objects, those of no manifest and of no begin at work."""
    at_work = {str(owner(job.head)) for job in jobs}
    return [each for each in listed if each not in named and owner_of(each) not in at_work]


def ended_readers(jobs: Mapping[str, Job], now: float) -> list[str]:
    """Those who began to restore so long ago that they will not go on."""
    return [
        name
        for name, job in jobs.items()
        if job.head.reader_since and now - job.head.reader_since > READER_S_MAX
    ]
