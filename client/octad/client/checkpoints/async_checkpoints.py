"""`AsyncCheckpoints`: the checkpoints of a job. `Checkpoints` is the same without `await`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Final, Self

from msgspec.structs import replace

from octad.client.checkpoints.async_checkpoint import AsyncCheckpoint, difference_of, found_or_raise
from octad.client.checkpoints.async_writer import SWAPS_MAX, AsyncCheckpointWriter, writer_of
from octad.client.checkpoints.auditor import Audit, audit
from octad.client.checkpoints.collector import Collected, Collector, documents, read_jobs
from octad.client.checkpoints.head_store import Standing, read_head, read_kept, swap, with_changed
from octad.client.checkpoints.place import BucketStore, Place
from octad.client.checkpoints.rules import heads
from octad.client.checkpoints.rules.differences import Difference
from octad.client.checkpoints.rules.documents import Head, Kept
from octad.client.checkpoints.rules.errors import CheckpointFenced, CheckpointNotFound
from octad.client.checkpoints.rules.names import bucket_and_layout_of, checked_job
from octad.client.checkpoints.topics_log import topics_log
from octad.client.errors import ConfigurationError, OctadError
from octad.client.objects.async_client import AsyncClient

Change = Callable[[Head], Awaitable[Head]]

_AGAIN: Final = "someone else changes it all the time: try again"


class AsyncCheckpoints:
    """The checkpoints of `job` below `s3://bucket/prefix`: octad's, or any S3 with `If-Match`.

    Jobs of one prefix share what is equal in their data. Without a `client`, one is made of the
    environment, as `AsyncClient()` does, and closed with this. `log`: where nodes serve the log
    (OCTAD_LOG_URL), for jobs that read or write topics; without it nothing is fenced or pinned
    there. Raises ConfigurationError.
    """

    def __init__(
        self,
        url: str,
        job: str,
        *,
        client: AsyncClient | None = None,
        log: str | None = None,
    ) -> None:
        bucket, layout = bucket_and_layout_of(url)
        self.job = checked_job(job)
        self._own_client = None if client is not None else AsyncClient()
        client = client or self._own_client
        assert client is not None
        store = BucketStore(client.bucket(bucket))
        self._log = topics_log(log, client.caller, f"{bucket}/{layout.prefix}")
        self._place = Place(store, layout, client.caller.runtime, self._log)

    @classmethod
    def at(cls, place: Place, job: str) -> Self:
        """Of a place that stands; for the SDK's own modules."""
        made = cls.__new__(cls)
        made.job, made._own_client, made._log = checked_job(job), None, None
        made._place = place
        return made

    @property
    def place(self) -> Place:
        """For the SDK's own modules."""
        return self._place

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of what is this one's own."""
        if self._log is not None:
            self._log.close()
        if self._own_client is not None:
            await self._own_client.close()

    # Owning.

    async def begin(
        self,
        writes: Sequence[tuple[str, int]] = (),
        *,
        keep: int = 0,
        bases: Sequence[tuple[str, str]] = (),
    ) -> AsyncCheckpointWriter:
        """Take the job over: once a process, before anything is restored.

        From then on whatever an earlier process of the job commits is refused, and what it appends
        to the partitions of `writes` (topic, partition), too. `keep`: each commit drops what is
        beyond the newest so many, but for savepoints and what is pinned; 0: none. `bases`:
        checkpoints (job, id) of other jobs whose data this one shares. Raises CheckpointFenced
        where another process took it over at the same moment.
        """
        if writes and self._place.log is None:
            raise ConfigurationError(
                "partitions are fenced by the log, and where that is was not said",
                "pass log=http://HOST:PORT, or set OCTAD_LOG_URL",
            )
        if keep < 0:
            raise ConfigurationError(f"{keep} checkpoints cannot be kept", "0 keeps all of them")
        standing = await self._taken_over()
        if self._place.log is not None:
            for topic, partition in writes:
                await self._place.log.fence(self.job, standing.head.epoch, topic, partition)
        return await writer_of(self._place, standing, keep, bases)

    async def _taken_over(self) -> Standing:
        nonce = self._place.token()
        standing = await read_head(self._place, self.job)
        for _ in range(SWAPS_MAX):
            head = heads.begun(standing and standing.head, self.job, nonce, self._place.token())
            done, there = await swap(
                self._place, self.job, standing, head, lambda found: found.nonce == nonce
            )
            if done:
                assert there is not None
                return there
            if there is not None and there.head.epoch >= head.epoch:
                raise CheckpointFenced(self.job, head.epoch, there.head.epoch)
            standing = there
        raise OctadError(f"the head of job {self.job} could not be swapped", _AGAIN)

    # Looking.

    async def latest(
        self,
        *,
        before: datetime | None = None,
        offsets: Mapping[tuple[str, int], int] | None = None,
    ) -> AsyncCheckpoint | None:
        """The newest checkpoint; None where there is none.

        `before`: of those committed by then. `offsets`: of those that had read none of these
        partitions beyond.
        """
        moment = None if before is None else before.timestamp()
        if before is None and not offsets:
            standing = await read_head(self._place, self.job)
            kept: Sequence[Kept] = () if standing is None else standing.head.kept
        else:
            kept = await self._kept()
        found = heads.chosen(kept, before=moment, offsets=offsets)
        return None if found is None else AsyncCheckpoint(self._place, self.job, found)

    async def checkpoint(self, name: str) -> AsyncCheckpoint:
        """By its id, or its name as a savepoint. Raises CheckpointNotFound."""
        found = found_or_raise(heads.chosen(await self._kept(), checkpoint=name), self.job, name)
        return AsyncCheckpoint(self._place, self.job, found)

    async def list(self) -> Sequence[AsyncCheckpoint]:
        """All that are kept, newest first."""
        kept = reversed(await self._kept())
        return [AsyncCheckpoint(self._place, self.job, each) for each in kept]

    async def diff(self, first: str, second: str) -> Difference:
        """What `second` has that `first` has not, and the reverse."""
        return await difference_of(await self.checkpoint(first), await self.checkpoint(second))

    async def _kept(self) -> Sequence[Kept]:
        """A page that is gone was replaced, if the head says so."""
        standing = await read_head(self._place, self.job)
        while standing is not None:
            try:
                return (await read_kept(self._place, standing.head)).all()
            except OctadError:
                newer = await read_head(self._place, self.job)
                if newer == standing:
                    raise
                standing = newer
        return []

    # Keeping.

    async def keep(self, newest: int) -> Sequence[str]:
        """Drop all but the `newest` so many, savepoints and what is pinned. The ids that went."""
        if newest < 1:
            raise ConfigurationError("a job keeps one checkpoint at least", "keep 1 or more")
        gone: list[Kept] = []

        async def change(head: Head) -> Head:
            before = await read_kept(self._place, head)
            ids = heads.beyond(before.all(), newest)
            gone[:] = [each for each in before.all() if each.id in ids]
            return await with_changed(
                self._place, head, before, lambda kept: heads.without(kept, ids)
            )

        await self._changed(change)
        if self._place.log is not None:
            for each in gone:
                for at in each.offsets:
                    await self._place.log.release(self.job, each.id, at.topic, at.partition)
        return [each.id for each in gone]

    async def pin(self, name: str, *, label: str = "") -> None:
        """Keep a checkpoint whatever retention says, until `unpin`. Raises CheckpointNotFound."""
        await self._pinned(name, True, label)

    async def unpin(self, name: str) -> None:
        """Let retention drop it again. Raises CheckpointNotFound."""
        await self._pinned(name, False, "")

    async def _pinned(self, name: str, pinned: bool, label: str) -> None:
        async def change(head: Head) -> Head:
            before = await read_kept(self._place, head)
            found = found_or_raise(heads.chosen(before.all(), checkpoint=name), self.job, name)
            entry = replace(found, pinned=pinned, label=label or found.label)
            return await with_changed(
                self._place, head, before, lambda kept: heads.with_entry(kept, entry)
            )

        await self._changed(change)

    # Of all jobs below the prefix.

    async def jobs(self) -> Sequence[str]:
        """Their names."""
        found = await documents(self._place)
        heads = {each.job for each in found if each.kind == "head"}
        jobs = await read_jobs(self._place, heads)
        return sorted(name for name, job in jobs.items() if not job.head.reader_since)

    async def collect(self, *, dry_run: bool = False) -> Collected:
        """Delete what no checkpoint of any job needs, and no begin that may be at work.

        Beside any jobs; of several at once the newest goes on, and the others raise OctadError.
        `dry_run`: only say what would go.
        """
        return await Collector(self._place, dry_run=dry_run).collect()

    async def audit(self) -> Audit:
        """Whether all that any kept checkpoint needs is there, with listings of its own."""
        return await audit(self._place)

    async def _changed(self, change: Change) -> None:
        """Swap the kept list, whoever owns the job: epoch and nonce stay as they are."""
        for _ in range(SWAPS_MAX):
            standing = await read_head(self._place, self.job)
            if standing is None:
                raise CheckpointNotFound(
                    f"there is no job {self.job}", "see which there are: octad checkpoint ls"
                )
            token = self._place.token()
            head = replace(await change(standing.head), change=token)
            if head.kept == standing.head.kept and head.pages == standing.head.pages:
                return
            done, _ = await swap(self._place, self.job, standing, head, partial(_has_change, token))
            if done:
                return
        raise OctadError(f"the kept list of job {self.job} could not be changed", _AGAIN)


def _has_change(token: str, head: Head) -> bool:
    return head.change == token
