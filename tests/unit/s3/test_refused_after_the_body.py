"""The bytes are stored, and the row that is to name them is refused: nothing stays of them.

Unless an earlier try may have been carried out, or may be yet: then they may be what a row names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from tests.unit.s3.front_door_site import FrontDoorSite, RawAnswer
from tests.unit.s3.sharing.test_forms_front_door import posted, signed

from octad.sharding.limits import INLINE_BYTES_MAX
from octad.storage_node.shards.object_store import (
    DiskFull,
    NoSuchBucket,
    NoSuchUpload,
    StoreError,
    Unavailable,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

SMALL, LARGE = b"a" * INLINE_BYTES_MAX, b"b" * (2 * INLINE_BYTES_MAX)
OFFSET = "x-amz-write-offset-bytes"


class Writers:
    """Each stores bytes before it writes a row."""

    def __init__(self, site: FrontDoorSite, s3: S3Client, bucket: str) -> None:
        self.site, self.bucket = site, bucket
        s3.put_object(Bucket=bucket, Key="small", Body=SMALL)
        s3.put_object(Bucket=bucket, Key="large", Body=LARGE)
        upload = s3.create_multipart_upload(Bucket=bucket, Key="key")["UploadId"]
        self._part = f"partNumber=1&uploadId={upload}"

    def put(self) -> RawAnswer:
        return self._put("key", LARGE)

    def copy(self) -> RawAnswer:
        return self._put("key", b"", **{"x-amz-copy-source": f"{self.bucket}/large"})

    def part(self) -> RawAnswer:
        return self._put("key", SMALL, self._part)

    def part_copy(self) -> RawAnswer:
        return self._put("key", b"", self._part, **{"x-amz-copy-source": f"{self.bucket}/small"})

    def form(self) -> RawAnswer:
        return posted(self.site, self.bucket, signed(self.site, self.bucket, {"key": "key"}), LARGE)

    def append(self) -> RawAnswer:
        return self._put("large", SMALL, **{OFFSET: str(len(LARGE))})

    def append_that_moves(self) -> RawAnswer:
        """What is there is in its record, and goes into extents beside what is sent."""
        return self._put("small", LARGE, **{OFFSET: str(len(SMALL))})

    def append_that_is_moved(self) -> RawAnswer:
        """What is sent would do in a record, and what is there is in extents."""
        return self._put("large", b"c", **{OFFSET: str(len(LARGE))})

    def _put(self, key: str, body: bytes, query: str = "", **headers: str) -> RawAnswer:
        path = f"/{self.bucket}/{key}"
        return self.site.request("PUT", path, query, headers=headers, body=body)


WRITERS = [
    *(Writers.put, Writers.copy, Writers.part, Writers.part_copy, Writers.form),
    *(Writers.append, Writers.append_that_moves, Writers.append_that_is_moved),
]


@pytest.fixture
def writers(site: FrontDoorSite, s3: S3Client, bucket: str) -> Iterator[Writers]:
    yield Writers(site, s3, bucket)
    site.store.refusal = None


def refuse(writers: Writers, write: Callable[[Writers], RawAnswer], error: StoreError) -> int:
    """The write is refused; gives how many extents there are more."""
    before = len(writers.site.store.extents)
    writers.site.store.refusal = error
    answer = write(writers)
    assert answer.status >= 400, answer
    return len(writers.site.store.extents) - before


@pytest.mark.parametrize("error", [DiskFull, NoSuchBucket, NoSuchUpload])
@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_it_is_given_back(
    writers: Writers, write: Callable[[Writers], RawAnswer], error: type[StoreError]
) -> None:
    assert refuse(writers, write, error("no")) == 0


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_it_stays_where_an_earlier_try_may_name_it(
    writers: Writers, write: Callable[[Writers], RawAnswer]
) -> None:
    full = DiskFull("no")
    full.did_nothing = False
    assert refuse(writers, write, full) > 0
    assert refuse(writers, write, Unavailable("not now")) > 0
