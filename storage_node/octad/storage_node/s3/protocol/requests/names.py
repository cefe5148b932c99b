"""The names that S3 allows: buckets (Amazon S3 user guide, "Bucket naming rules"), keys, owners."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from octad.client.s3.errors import S3Error
from octad.sharding.limits import KEY_BYTES_MAX

# 3–63 of lower-case letters, digits, dots and hyphens, with a letter or digit at either end.
_SHAPE: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_IP_ADDRESS: Final = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", re.ASCII)
_RESERVED_PREFIXES: Final = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES: Final = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")

# An account number as at AWS, or one of our owners' names.
_OWNER: Final = re.compile(r"\d{12}|(?!\d+$)[a-z0-9-]{1,64}", re.ASCII)


@lru_cache(4096)
def is_bucket_name(name: str) -> bool:
    """Whether S3 lets a bucket be called `name`."""
    return (
        _SHAPE.fullmatch(name) is not None
        and ".." not in name
        and _IP_ADDRESS.fullmatch(name) is None
        and not name.startswith(_RESERVED_PREFIXES)
        and not name.endswith(_RESERVED_SUFFIXES)
    )


def check_bucket_name(name: str) -> None:
    """Raises InvalidBucketName; also for a look-up, since no such bucket can have been made."""
    if not is_bucket_name(name):
        raise S3Error("InvalidBucketName", fields={"BucketName": name})


def check_new_bucket_name(name: str) -> None:
    """Raises InvalidBucketName, also for a name that no host can have: a hyphen next to a dot.

    Buckets that were made with one before there was this rule are looked up as any other.
    """
    check_bucket_name(name)
    if ".-" in name or "-." in name:
        raise S3Error("InvalidBucketName", fields={"BucketName": name})


def check_key(key: bytes) -> None:
    """Raises KeyTooLongError."""
    if len(key) > KEY_BYTES_MAX:
        raise S3Error(
            "KeyTooLongError",
            fields={"Size": str(len(key)), "MaxSizeAllowed": str(KEY_BYTES_MAX)},
        )


def check_owner_name(name: str) -> None:
    """Raises InvalidBucketOwnerAWSAccountID for what no one who owns a bucket can be called."""
    if _OWNER.fullmatch(name) is None:
        raise S3Error(
            "InvalidBucketOwnerAWSAccountID",
            "The value of the expected bucket owner parameter must be an AWS Account ID... "
            f"[{name}]",
        )
