"""Names: of jobs, checkpoints and owners, and the keys of their objects.

    <prefix>/jobs/<job>/head
    <prefix>/jobs/<job>/begins/<epoch>-<nonce>
    <prefix>/jobs/<job>/pages/<token>.<epoch>-<nonce>
    <prefix>/jobs/<job>/manifests/<n>.<epoch>-<nonce>     the last part is the checkpoint's id
    <prefix>/data/<SHA-256>.<epoch>-<nonce>
    <prefix>/collection

Data, manifests and pages are named after the owner, `<epoch>-<nonce>`, of the begin under which
they were written. So a collector knows whether that one may still be at work, and no name is ever
used by two.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from octad.client.errors import ConfigurationError

_JOB: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_URL: Final = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", re.DOTALL)
_PATH_MAX: Final = 1024


class Owner(NamedTuple):
    """One begin of a job."""

    epoch: int
    nonce: str

    def __str__(self) -> str:
        return f"{self.epoch}-{self.nonce}"


def owner_of(name: str) -> str:
    """`<epoch>-<nonce>` at the end of a name of data, a page or a manifest."""
    return name.rpartition(".")[2]


def sha256_of(data: str) -> str:
    """Of the bytes of a data object, by its name."""
    return data.partition(".")[0]


def number_of(checkpoint: str) -> int:
    """Which one of its job a checkpoint is; 0 for ""."""
    return int(checkpoint.partition(".")[0] or 0)


class Layout(NamedTuple):
    """Keys below a prefix, which is empty or ends with a slash."""

    prefix: str

    @property
    def jobs(self) -> str:
        return f"{self.prefix}jobs/"

    @property
    def collection(self) -> str:
        return f"{self.prefix}collection"

    @property
    def all_data(self) -> str:
        return f"{self.prefix}data/"

    def head(self, job: str) -> str:
        return f"{self.jobs}{job}/head"

    def begins(self, job: str) -> str:
        return f"{self.jobs}{job}/begins/"

    def begin(self, job: str, owner: Owner) -> str:
        return f"{self.begins(job)}{owner}"

    def page(self, job: str, name: str) -> str:
        return f"{self.jobs}{job}/pages/{name}"

    def manifest(self, job: str, checkpoint: str) -> str:
        return f"{self.jobs}{job}/manifests/{checkpoint}"

    def data(self, name: str) -> str:
        return f"{self.all_data}{name}"


class JobKey(NamedTuple):
    """What a key below `jobs/` says: "head", "begins", "pages", "manifests", and which one."""

    job: str
    kind: str
    name: str


def job_key_of(key: str, layout: Layout) -> JobKey | None:
    """None for what is no key of this layout."""
    words = key.removeprefix(layout.jobs).split("/")
    if len(words) == 2 and words[1] == "head":
        return JobKey(words[0], "head", "")
    if len(words) == 3 and words[1] in ("begins", "pages", "manifests"):
        return JobKey(*words)
    return None


def bucket_and_layout_of(url: str) -> tuple[str, Layout]:
    """Of `s3://bucket/prefix`. Raises ConfigurationError."""
    found = _URL.fullmatch(url)
    if found is None:
        raise ConfigurationError(
            f"{url!r} is no place for checkpoints", "write it as s3://bucket/prefix"
        )
    prefix = (found[2] or "").strip("/")
    return found[1], Layout(f"{prefix}/" if prefix else "")


def checked_job(job: str) -> str:
    """Raises ConfigurationError."""
    if _JOB.fullmatch(job) is None:
        raise ConfigurationError(
            f"{job[:80]!r} cannot name a job", "use up to 200 letters, digits, dots, - and _"
        )
    return job


def checked_path(path: str) -> str:
    """A file's path in a checkpoint: below any folder, never beside it."""
    words = path.split("/")
    printable = not any(ord(c) < 32 or ord(c) == 127 for c in path)
    if not printable or len(path) > _PATH_MAX or any(word in ("", ".", "..") for word in words):
        raise ConfigurationError(
            f"{path[:80]!r} cannot name a file of a checkpoint",
            "use a path relative to the checkpoint, as in 'db/000012.sst'",
        )
    return path
