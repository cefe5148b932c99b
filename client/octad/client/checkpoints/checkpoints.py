"""`Checkpoints`, `CheckpointWriter`, `Checkpoint`: as the Async ones, without `await`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from os import PathLike
from types import TracebackType
from typing import Any, BinaryIO, Self

from octad.client.checkpoints.async_checkpoint import AsyncCheckpoint
from octad.client.checkpoints.async_checkpoints import AsyncCheckpoints
from octad.client.checkpoints.async_writer import AsyncCheckpointWriter, AsyncPutStream
from octad.client.checkpoints.auditor import Audit
from octad.client.checkpoints.collector import Collected
from octad.client.checkpoints.place import Place
from octad.client.checkpoints.rules.differences import Difference
from octad.client.checkpoints.staging import Progress
from octad.client.http.blocking import drive, iterate
from octad.client.http.transport import Bytes
from octad.client.objects.client import Client
from octad.client.objects.sources import BlockingSource


class Checkpoint:
    """A checkpoint as the job's head has it. `bytes`: of all files; `added`: of what was new."""

    def __init__(self, checkpoint: AsyncCheckpoint) -> None:
        self._checkpoint = checkpoint
        self.job = checkpoint.job
        self.id = checkpoint.id
        self.bytes = checkpoint.bytes
        self.added = checkpoint.added
        self.pinned = checkpoint.pinned
        self.label = checkpoint.label
        self.time = checkpoint.time
        self.offsets = checkpoint.offsets

    def __repr__(self) -> str:
        return repr(self._checkpoint)

    def metadata(self) -> dict[str, Any]:
        """What was committed with it."""
        return drive(self._checkpoint.metadata())

    def files(self) -> dict[str, int]:
        """Paths, with their sizes in bytes."""
        return drive(self._checkpoint.files())

    def restore(
        self,
        directory: str | PathLike[str],
        *,
        at_once: int = 8,
        progress: Progress | None = None,
    ) -> None:
        """All files, into a directory that is empty or not there. All of it, or nothing.

        `at_once`: how many reads run at a time. `progress` is called with how many bytes more
        have come. Raises DownloadFailed, CheckpointDamaged, CheckpointNotFound.
        """
        drive(self._checkpoint.restore(directory, at_once=at_once, progress=progress))

    def restore_file(self, path: str, file: BinaryIO, *, at_once: int = 8) -> None:
        """One file, into an open one, in order."""
        drive(self._checkpoint.restore_file(path, file, at_once=at_once))

    def read(self, path: str, *, start: int = 0, end: int | None = None) -> bytes:
        """A file's bytes, or those from `start` to before `end`.

        Whole parts are checked; of others only what is needed is read.
        """
        return drive(self._checkpoint.read(path, start=start, end=end))

    def look_up(self, path: str, key: bytes) -> bytes | None:
        """The value of a key in a file that `key_value_file` made; None: there is none.

        Reads one block of it, and the first time its index.
        """
        return drive(self._checkpoint.look_up(path, key))

    def scan(
        self, path: str, start: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of such a file in order, from `start` to before `end`."""
        return iterate(self._checkpoint.scan(path, start, end))


class CheckpointWriter:
    """Made by `Checkpoints.begin`. One thread uses it at a time.

    What was put since the last commit is the next checkpoint; before `commit` nobody sees it.
    """

    def __init__(self, writer: AsyncCheckpointWriter) -> None:
        self._writer = writer

    @property
    def epoch(self) -> int:
        """Of this begin: also the token with which the job appends to the log."""
        return self._writer.epoch

    @property
    def job(self) -> str:
        return self._writer.job

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint, once all that came before this begin is fenced; None: none yet."""
        found = drive(self._writer.latest())
        return None if found is None else Checkpoint(found)

    def checkpoint(self, name: str) -> Checkpoint:
        """One of an id or savepoint name, to restore and go on from. Raises CheckpointNotFound."""
        return Checkpoint(drive(self._writer.checkpoint(name)))

    def put(self, path: str, data: BlockingSource, *, progress: Progress | None = None) -> None:
        """A file of the next checkpoint: bytes, a path, an open file, an iterator of bytes.

        `progress` is called with how many bytes more are stored, or were already.
        """
        drive(self._writer.put(path, data, progress=progress))

    def put_dir(
        self,
        directory: str | PathLike[str],
        prefix: str = "",
        *,
        pattern: str = "**/*",
        progress: Progress | None = None,
    ) -> None:
        """All files of a directory that match, as `prefix` + their paths in it.

        They must not change meanwhile: of RocksDB and the like, give a checkpoint of theirs.
        """
        drive(self._writer.put_dir(directory, prefix, pattern=pattern, progress=progress))

    def put_stream(self, path: str) -> PutStream:
        """A file to write into, with `with`; it is put once that has ended well."""
        return PutStream(self._writer.put_stream(path))

    def discard(self) -> None:
        """Forget what was put since the last commit."""
        self._writer.discard()

    def commit(
        self,
        offsets: Mapping[tuple[str, int], int] | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        savepoint: str = "",
    ) -> Checkpoint:
        """What was put since the last commit becomes the job's newest checkpoint, in one step.

        `offsets`: of (topic, partition), the first record that the state does not cover; the log
        keeps what comes after, as long as the checkpoint is kept. `metadata`: whatever JSON has.
        `savepoint`: its name; retention never takes it. Raises CheckpointFenced, BaseDropped.
        """
        return Checkpoint(drive(self._writer.commit(offsets, metadata, savepoint=savepoint)))


class PutStream:
    """`with` it, then `write`, as into a file. Parts are stored as they are full."""

    def __init__(self, stream: AsyncPutStream) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        drive(self._stream.__aexit__(kind, error, trace))

    def write(self, data: Bytes) -> int:
        """How many bytes that was: all of them."""
        return drive(self._stream.write(data))

    def flush(self) -> None:
        """Nothing to do: libraries that write files call it."""


class Checkpoints:
    """The checkpoints of `job` below `s3://bucket/prefix`: octad's, or any S3 with `If-Match`.

    Jobs of one prefix share what is equal in their data. Without a `client`, one is made of the
    environment, as `Client()` does, and closed with this. `log`: where nodes serve the log
    (OCTAD_LOG_URL), for jobs that read or write topics; without it nothing is fenced or pinned
    there. Raises ConfigurationError.
    """

    def __init__(
        self, url: str, job: str, *, client: Client | None = None, log: str | None = None
    ) -> None:
        self._own_client = None if client is not None else Client()
        client = client or self._own_client
        assert client is not None
        self._checkpoints = AsyncCheckpoints(url, job, client=client.on_blocking_sockets, log=log)
        self.job = job

    @property
    def place(self) -> Place:
        """For `drive`, in the SDK's own modules."""
        return self._checkpoints.place

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what is this one's own."""
        drive(self._checkpoints.close())
        if self._own_client is not None:
            self._own_client.close()

    def begin(
        self,
        writes: Sequence[tuple[str, int]] = (),
        *,
        keep: int = 0,
        bases: Sequence[tuple[str, str]] = (),
    ) -> CheckpointWriter:
        """Take the job over: once a process, before anything is restored.

        From then on whatever an earlier process of the job commits is refused, and what it appends
        to the partitions of `writes` (topic, partition), too. `keep`: each commit drops what is
        beyond the newest so many, but for savepoints and what is pinned; 0: none. `bases`:
        checkpoints (job, id) of other jobs whose data this one shares. Raises CheckpointFenced
        where another process took it over at the same moment.
        """
        return CheckpointWriter(drive(self._checkpoints.begin(writes, keep=keep, bases=bases)))

    def latest(
        self,
        *,
        before: datetime | None = None,
        offsets: Mapping[tuple[str, int], int] | None = None,
    ) -> Checkpoint | None:
        """The newest checkpoint; None where there is none.

        `before`: of those committed by then. `offsets`: of those that had read none of these
        partitions beyond.
        """
        found = drive(self._checkpoints.latest(before=before, offsets=offsets))
        return None if found is None else Checkpoint(found)

    def checkpoint(self, name: str) -> Checkpoint:
        """By its id, or its name as a savepoint. Raises CheckpointNotFound."""
        return Checkpoint(drive(self._checkpoints.checkpoint(name)))

    def list(self) -> Sequence[Checkpoint]:
        """All that are kept, newest first."""
        return [Checkpoint(each) for each in drive(self._checkpoints.list())]

    def diff(self, first: str, second: str) -> Difference:
        """What `second` has that `first` has not, and the reverse."""
        return drive(self._checkpoints.diff(first, second))

    def keep(self, newest: int) -> Sequence[str]:
        """Drop all but the `newest` so many, savepoints and what is pinned. The ids that went."""
        return drive(self._checkpoints.keep(newest))

    def pin(self, name: str, *, label: str = "") -> None:
        """Keep a checkpoint whatever retention says, until `unpin`. Raises CheckpointNotFound."""
        drive(self._checkpoints.pin(name, label=label))

    def unpin(self, name: str) -> None:
        """Let retention drop it again. Raises CheckpointNotFound."""
        drive(self._checkpoints.unpin(name))

    def jobs(self) -> Sequence[str]:
        """The names of all jobs below the prefix."""
        return drive(self._checkpoints.jobs())

    def collect(self, *, dry_run: bool = False) -> Collected:
        """Delete what no checkpoint of any job needs, and no begin that may be at work.

        Beside any jobs; of several at once the newest goes on, and the others raise OctadError.
        `dry_run`: only say what would go.
        """
        return drive(self._checkpoints.collect(dry_run=dry_run))

    def audit(self) -> Audit:
        """Whether all that any kept checkpoint needs is there, with listings of its own."""
        return drive(self._checkpoints.audit())
