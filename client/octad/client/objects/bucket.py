"""`Bucket`: the objects of one bucket, without an event loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Self, overload

from octad.client.http.blocking import drive, iterate
from octad.client.objects.async_bucket import AsyncBucket, Fallback
from octad.client.objects.results import (
    CommonPrefix,
    DeleteFailure,
    Object,
    ObjectInfo,
    Written,
)
from octad.client.objects.sources import BlockingSource

if TYPE_CHECKING:
    from octad.client.objects.presigning import PresignedPost
    from octad.client.objects.ranges import Progress
    from octad.client.objects.streams import ObjectStream


class BlockingStream:
    """`with` it, then `for`, or `read`. `info` is known once it has been entered.

    The checksum is compared at the end: what was read before is not proved until then.
    """

    def __init__(self, stream: ObjectStream) -> None:
        self._stream = stream

    @property
    def info(self) -> ObjectInfo:
        """What is known of the object."""
        return self._stream.info

    def __enter__(self) -> Self:
        drive(self._stream.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[bytes]:
        while piece := drive(self._stream.next_piece()):
            yield piece

    def read(self, size: int = -1) -> bytes:
        """`size` bytes, fewer at the end; all that is left without a size."""
        return drive(self._stream.read(size))


class Bucket:
    """A bucket's objects. Made by `Client.bucket`, without a request.

    Each call has a `deadline` in seconds for all of it, retries included. Without one it is the
    client's, which grows by a second for each MiB.
    """

    def __init__(self, bucket: AsyncBucket) -> None:
        self._bucket = bucket
        self.name = bucket.name

    def __repr__(self) -> str:
        return f"Bucket({self.name!r})"

    # Reading.

    @overload
    def get(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        if_match: str = "",
        deadline: float | None = None,
    ) -> Object: ...

    @overload
    def get(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        if_match: str = "",
        fallback: Fallback,
        deadline: float | None = None,
    ) -> Object | Fallback: ...

    def get(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        if_match: str = "",
        fallback: object = ...,
        deadline: float | None = None,
    ) -> object:
        """An object, or its bytes from `start` to before `end` (`start=-5`: the last five).

        The bytes are checked against the checksum that was stored. `fallback` is returned instead
        where the cluster cannot answer (`Unavailable`); that there is no such object is an answer.
        """
        return drive(
            self._bucket.get(
                key, start=start, end=end, if_match=if_match, fallback=fallback, deadline=deadline
            )
        )

    def stream(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        if_match: str = "",
        deadline: float | None = None,
    ) -> BlockingStream:
        """An object's bytes as they come, for `with` and `for`; memory stays flat.

        `deadline` is for the beginning. Where the node fails in the middle, another one goes on.
        """
        stream = self._bucket.stream(
            key, start=start, end=end, if_match=if_match, deadline=deadline
        )
        return BlockingStream(stream)

    def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, deadline: float | None = None
    ) -> list[bytes]:
        """The bytes of each (start, end), in parallel, all of the same version of the object."""
        return drive(self._bucket.get_ranges(key, ranges, deadline=deadline))

    def download(
        self,
        key: str,
        path: str | PathLike[str],
        *,
        resume: bool = False,
        progress: Progress | None = None,
        deadline: float | None = None,
    ) -> ObjectInfo:
        """Into a file, ranges in parallel. What `path` was before stays until all is there.

        `resume`: take up what an earlier `download` with `resume` had got, if the object is the
        same; else what is not whole is removed. `progress` is called with how many bytes more
        have come.
        """
        return drive(
            self._bucket.download(key, path, resume=resume, progress=progress, deadline=deadline)
        )

    def head(self, key: str, *, deadline: float | None = None) -> ObjectInfo:
        """What is known of an object, without its bytes."""
        return drive(self._bucket.head(key, deadline=deadline))

    def exists(self, key: str = "", *, deadline: float | None = None) -> bool:
        """Whether there is such an object; without a key, whether there is this bucket."""
        return drive(self._bucket.exists(key, deadline=deadline))

    def list(
        self, prefix: str = "", *, start_after: str = "", deadline: float | None = None
    ) -> Iterator[ObjectInfo]:
        """All objects whose keys begin with `prefix`, in byte order. `deadline`: of each page."""
        return iterate(self._bucket.list(prefix, start_after=start_after, deadline=deadline))

    def list_folder(
        self,
        prefix: str = "",
        *,
        delimiter: str = "/",
        start_after: str = "",
        deadline: float | None = None,
    ) -> Iterator[ObjectInfo | CommonPrefix]:
        """Like `list`, with all keys that share more up to a `delimiter` as one CommonPrefix."""
        return iterate(
            self._bucket.list_folder(
                prefix, delimiter=delimiter, start_after=start_after, deadline=deadline
            )
        )

    # Writing.

    def put(
        self,
        key: str,
        data: BlockingSource,
        *,
        content_type: str = "",
        content_encoding: str = "",
        cache_control: str = "",
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        if_match: str = "",
        if_none_match: str = "",
        if_version: str = "",
        resume: bool = False,
        deadline: float | None = None,
    ) -> Written:
        """Store `data` (bytes, a file, a path, an iterator of bytes) under `key`.

        What is larger than 16 MiB, or of a length that is not known, goes up in parts in parallel.
        `resume`: take up what an earlier `put` of the key with `resume` had sent. `deadline` is
        then of each part. `if_none_match="*"`: only where there is none; `if_match`: an ETag;
        `if_version`: an `ObjectInfo.version`. Raises ConditionFailed where that does not hold.
        """
        return drive(
            self._bucket.put(
                key,
                data,
                content_type=content_type,
                content_encoding=content_encoding,
                cache_control=cache_control,
                metadata=metadata,
                tags=tags,
                if_match=if_match,
                if_none_match=if_none_match,
                if_version=if_version,
                resume=resume,
                deadline=deadline,
            )
        )

    def append(
        self,
        key: str,
        data: bytes | bytearray | memoryview,
        *,
        offset: int | None = None,
        deadline: float | None = None,
    ) -> Written:
        """Put `data` behind an object, or make it. Only octad has that in every bucket.

        `offset`: its size, 0 where there is none; without it, that is looked up first. Raises
        ConditionFailed where the object has another size by then.
        """
        return drive(self._bucket.append(key, data, offset=offset, deadline=deadline))

    def copy(
        self,
        source: str,
        key: str,
        *,
        source_bucket: str = "",
        if_match: str = "",
        if_none_match: str = "",
        if_version: str = "",
        deadline: float | None = None,
    ) -> Written:
        """Copy the object `source`, with its metadata and tags, inside the cluster."""
        return drive(
            self._bucket.copy(
                source,
                key,
                source_bucket=source_bucket,
                if_match=if_match,
                if_none_match=if_none_match,
                if_version=if_version,
                deadline=deadline,
            )
        )

    def delete(
        self,
        key: str,
        *,
        if_match: str = "",
        if_version: str = "",
        deadline: float | None = None,
    ) -> None:
        """Remove an object; that it is not there is no error."""
        drive(self._bucket.delete(key, if_match=if_match, if_version=if_version, deadline=deadline))

    def delete_many(
        self, keys: Iterable[str], *, deadline: float | None = None
    ) -> Sequence[DeleteFailure]:
        """Remove objects, a thousand a request; returns those that were not.

        `deadline` is of each request.
        """
        return drive(self._bucket.delete_many(keys, deadline=deadline))

    def tags(self, key: str, *, deadline: float | None = None) -> dict[str, str]:
        """The object's tags."""
        return drive(self._bucket.tags(key, deadline=deadline))

    def set_tags(self, key: str, tags: Mapping[str, str], *, deadline: float | None = None) -> None:
        """These are the object's tags, and no others."""
        drive(self._bucket.set_tags(key, tags, deadline=deadline))

    # For others.

    def presign(self, key: str, *, method: str = "GET", expires_s: int = 3600) -> str:
        """A URL with which anyone may do `method` with the object for `expires_s` seconds."""
        return drive(self._bucket.presign(key, method=method, expires_s=expires_s))

    def presign_post(self, key: str, *, bytes_max: int, expires_s: int = 3600) -> PresignedPost:
        """A form with which a browser may put one object of up to `bytes_max` bytes there.

        `key` may end with `${filename}`.
        """
        return drive(self._bucket.presign_post(key, bytes_max=bytes_max, expires_s=expires_s))
