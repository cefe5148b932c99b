"""Where objects and files are, as people write it: `s3://bucket/key`, a path, or `-`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final, NamedTuple

from octad.client.runtime.command import EXIT_USAGE, CommandError

SCHEME: Final = "s3://"
STANDARD: Final = "-"  # Standard input or output.


class S3Place(NamedTuple):
    """A key, or the beginning of keys, in a bucket."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"


Place = S3Place | Path


def place_of(word: str) -> Place:
    """Raises CommandError for what was meant to be in a bucket, and is not."""
    if word.startswith(SCHEME):
        return s3_place_of(word)
    if word.startswith(("s3:", "S3://")):
        bucket_and_key = word.partition(":")[2].lstrip("/")
        raise _not_in_a_bucket(word, f"did you mean {shlex.quote(SCHEME + bucket_and_key)}?")
    if not word:
        raise CommandError("'' is no path", "name a file, a folder or s3://BUCKET/KEY", EXIT_USAGE)
    return Path(word)


def s3_place_of(word: str) -> S3Place:
    """Raises CommandError for what is not in a bucket."""
    bucket, _, key = word.removeprefix(SCHEME).partition("/")
    if not word.startswith(SCHEME) or not bucket:
        meant = word.removeprefix("s3:").strip("/")
        hint = f"did you mean {shlex.quote(SCHEME + meant)}?" if meant else "see: octad ls"
        raise _not_in_a_bucket(word, hint)
    if "?" in bucket or "*" in bucket:
        raise CommandError(f"{word!r} leaves open which bucket", "see: octad ls", EXIT_USAGE)
    return S3Place(bucket, key)


def shown(place: Place | str) -> str:
    """For people: nothing in a name may move the cursor of their terminal."""
    text = str(place)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown_word(place: Place | str) -> str:
    """As a word of a command that is printed for people."""
    return shlex.quote(shown(place))


def _not_in_a_bucket(word: str, hint: str) -> CommandError:
    return CommandError(f"{word!r} is no s3://BUCKET/KEY", hint, EXIT_USAGE)
