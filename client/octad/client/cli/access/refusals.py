"""What the SDK raises, as the one line that ends a verb: what is wrong, and the next command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from octad.client.checkpoints.rules.errors import CheckpointNotFound
from octad.client.cli.access.places import S3Place, shown, shown_word
from octad.client.errors import (
    AccessDenied,
    BucketNotEmpty,
    BucketNotFound,
    CannotReach,
    ConfigurationError,
    NotFound,
    OctadError,
    Refused,
    StorageFull,
    WrongClock,
    WrongKey,
    WrongProtocol,
)
from octad.client.runtime.command import EXIT_USAGE, CommandError

EXIT_NOT_THERE = 4


@contextmanager
def refusals_of(place: S3Place | None = None) -> Iterator[None]:
    """Whatever goes wrong inside becomes a CommandError. `place`: what it is about."""
    try:
        yield
    except OctadError as error:
        raise command_error(error, place) from error


def command_error(error: OctadError, place: S3Place | None = None) -> CommandError:
    """One line for `error`."""
    what = shown(str(error).removesuffix(f"; {error.fix}")).rstrip(".")
    if isinstance(error, BucketNotFound):  # It says "PUT bucket/key: NoSuchBucket".
        bucket = what.partition(" ")[2].partition(":")[0].partition("/")[0]
        return CommandError(
            f"there is no bucket {bucket}",
            f"see which there are (octad ls), or make it: octad bucket create {shown_word(bucket)}",
            EXIT_NOT_THERE,
        )
    if isinstance(error, NotFound) and place is not None:
        return not_there(place)
    return CommandError(what, _fix_of(error, place), _exit_code(error))


def not_there(place: S3Place) -> CommandError:
    """There is no such object."""
    folder = S3Place(place.bucket, place.key.rpartition("/")[0])
    return CommandError(
        f"there is no object {shown(place)}",
        f"see what there is: octad ls {shown_word(folder)}",
        EXIT_NOT_THERE,
    )


def _exit_code(error: OctadError) -> int:
    if isinstance(error, ConfigurationError):
        return EXIT_USAGE
    return EXIT_NOT_THERE if isinstance(error, NotFound | CheckpointNotFound) else 1


def _fix_of(error: OctadError, place: S3Place | None) -> str:
    if isinstance(error, CannotReach) and not isinstance(error, WrongProtocol):
        return "check whom it asks: octad config show --origin; and whether that runs: octad status"
    if isinstance(error, WrongClock):
        return "set this machine's clock; the cluster's may be 15 minutes from it at most"
    if isinstance(error, WrongKey):
        return "check whose keys these are: octad config show --origin"
    if isinstance(error, AccessDenied):
        return "use keys of the bucket's owner, or have it opened: octad bucket public --help"
    if isinstance(error, StorageFull):
        return "make room, or see what is full: octad status; octad bucket ls"
    if isinstance(error, Refused) and error.code == "InvalidBucketName":
        return "see which buckets there are: octad ls"
    if isinstance(error, BucketNotEmpty) and place is not None:
        return f"see what is in it: octad ls -r s3://{shown_word(place.bucket)}"
    return error.fix
