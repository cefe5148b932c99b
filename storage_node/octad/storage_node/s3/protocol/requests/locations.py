"""The location that a client requests for a bucket: this cluster is one region, with pools."""

from __future__ import annotations

import re
from typing import Final

from octad.client.s3.errors import S3Error
from octad.sharding.map.pool_names import POOL_NAME_PREFIX

# Where S3 began. A bucket there has no location, and one that one owns may be made again; anywhere
# else that is an error.
FIRST_REGION: Final = "us-east-1"

_REGION: Final = re.compile(r"EU|[a-z]{2,3}(-[a-z]+)+-\d+", re.ASCII)


def check_location(location: str, region: str) -> None:
    """Raises S3's refusal unless `location` is "", the region or a pool's name.

    Which pools there are, the store knows.
    """
    if not location or location.startswith(POOL_NAME_PREFIX):
        return
    fields = {"LocationConstraint": location}
    if location == FIRST_REGION or (location != region and _REGION.fullmatch(location) is None):
        raise S3Error("InvalidLocationConstraint", fields=fields)
    if location != region:
        raise S3Error(
            "IllegalLocationConstraintException",
            f"The {location} location constraint is incompatible for the region specific endpoint "
            "this request was sent to.",
            fields=fields,
        )
