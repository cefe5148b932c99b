"""What checkpoints raise beside the errors of all of the SDK."""

from __future__ import annotations

from octad.client.errors import Damaged, OctadError


class CheckpointFenced(OctadError):
    """Another process has begun the job since: nothing more of this one is taken."""

    def __init__(self, job: str, epoch: int, newer: int) -> None:
        super().__init__(
            f"job {job} was taken over: it is at epoch {newer}, and this process began {epoch}",
            "end this process; the one that took over goes on",
        )
        self.job = job
        self.epoch = epoch
        self.newer_epoch = newer


class CheckpointNotFound(OctadError):
    """There is no such checkpoint, or no longer."""


class CheckpointDamaged(Damaged):
    """A document or the data of a checkpoint is missing or other than it was stored.

    `key`: of the object; `restores`: ids of checkpoints of the job that are whole, newest first.
    """

    def __init__(
        self, what: str, fix: str, *, key: str = "", restores: tuple[str, ...] = ()
    ) -> None:
        super().__init__(what, fix)
        self.key = key
        self.restores = restores


class CheckpointTooNew(OctadError):
    """A newer octad wrote it."""

    def __init__(self, key: str, version: int, known: int) -> None:
        super().__init__(
            f"{key} is of format {version}, and this octad knows them up to {known}",
            "update it: pip install --upgrade octad-client",
        )


class BaseDropped(OctadError):
    """What a checkpoint shared its data with was dropped meanwhile: put its files once more."""
