"""`AsyncBucket`: the objects of one bucket. `Bucket` is the same without `await`.

What only some calls need is imported by them, so that programs that put and get begin quickly.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from os import PathLike
from typing import TYPE_CHECKING, TypeVar, overload

from octad.client.calls.caller import Caller
from octad.client.calls.requests import Request, new_invocation
from octad.client.errors import BucketNotFound, Damaged, ObjectNotFound, Unavailable
from octad.client.objects.headers import Condition, Target, range_header, target_of
from octad.client.objects.results import (
    CommonPrefix,
    DeleteFailure,
    Object,
    ObjectInfo,
    Written,
    written,
)
from octad.client.objects.sources import SINGLE_PUT_BYTES_MAX, Source, parts_of
from octad.client.objects.verification import Verifier
from octad.client.s3.sigv4 import uri_encode_path
from octad.sharding.limits import LIST_KEYS_MAX

if TYPE_CHECKING:
    from octad.client.objects.presigning import PresignedPost
    from octad.client.objects.ranges import Progress
    from octad.client.objects.streams import ObjectStream

Fallback = TypeVar("Fallback")
_CHECKSUM_WANTED = {"x-amz-checksum-mode": "ENABLED"}


class AsyncBucket:
    """A bucket's objects. Made by `AsyncClient.bucket`, without a request.

    Each call has a `deadline` in seconds for all of it, retries included. Without one it is the
    client's, which grows by a second for each MiB.
    """

    def __init__(self, caller: Caller, name: str) -> None:
        self._caller = caller
        self.name = name

    def __repr__(self) -> str:
        return f"AsyncBucket({self.name!r})"

    # Reading.

    @overload
    async def get(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        if_match: str = "",
        deadline: float | None = None,
    ) -> Object: ...

    @overload
    async def get(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        if_match: str = "",
        fallback: Fallback,
        deadline: float | None = None,
    ) -> Object | Fallback: ...

    async def get(
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
        headers = dict(_CHECKSUM_WANTED)
        if start or end is not None:
            headers["range"] = range_header(start, end)
        if if_match:
            headers |= Condition(if_match).headers()
        request = Request("GET", self.name, key, headers=headers)
        try:
            return await self._checked(request, deadline)
        except Unavailable:
            if fallback is ...:
                raise
            return fallback

    async def _checked(self, request: Request, deadline: float | None) -> Object:
        """What a network has changed is read once more."""
        for last in (False, True):
            answer = await self._caller.whole(request, deadline)
            verifier = Verifier(request.key, answer.head.headers)
            verifier.update(answer.body)
            try:
                verifier.finish()
                break
            except Damaged:
                if last:
                    raise
        return Object(ObjectInfo.of_headers(request.key, answer.head.headers), answer.body)

    def stream(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        if_match: str = "",
        deadline: float | None = None,
    ) -> ObjectStream:
        """An object's bytes as they come, for `async with` and `async for`; memory stays flat.

        `deadline` is for the beginning. Where the node fails in the middle, another one goes on.
        """
        from octad.client.objects.streams import ObjectStream

        return ObjectStream(self._caller, self.name, key, start, end, if_match, deadline)

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, deadline: float | None = None
    ) -> list[bytes]:
        """The bytes of each (start, end), in parallel, all of the same version of the object."""
        from octad.client.objects.ranges import read_ranges

        return await read_ranges(self._caller, self.name, key, ranges, deadline)

    async def download(
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
        from octad.client.objects.ranges import download

        return await download(
            self._caller, self.name, key, path, deadline, resume=resume, progress=progress
        )

    async def head(self, key: str, *, deadline: float | None = None) -> ObjectInfo:
        """What is known of an object, without its bytes."""
        request = Request("HEAD", self.name, key)
        answer = await self._caller.whole(request, deadline)
        return ObjectInfo.of_headers(key, answer.head.headers)

    async def exists(self, key: str = "", *, deadline: float | None = None) -> bool:
        """Whether there is such an object; without a key, whether there is this bucket."""
        try:
            await self._caller.whole(Request("HEAD", self.name, key), deadline)
        except (ObjectNotFound, BucketNotFound):
            return False
        return True

    async def list(
        self, prefix: str = "", *, start_after: str = "", deadline: float | None = None
    ) -> AsyncGenerator[ObjectInfo, None]:
        """All objects whose keys begin with `prefix`, in byte order. `deadline`: of each page."""
        from octad.client.objects.listing import list_pages

        async with aclosing(
            list_pages(self._caller, self.name, prefix, "", start_after, deadline)
        ) as pages:
            async for page in pages:
                for item in page:
                    if isinstance(item, ObjectInfo):
                        yield item

    async def list_folder(
        self,
        prefix: str = "",
        *,
        delimiter: str = "/",
        start_after: str = "",
        deadline: float | None = None,
    ) -> AsyncGenerator[ObjectInfo | CommonPrefix, None]:
        """Like `list`, with all keys that share more up to a `delimiter` as one CommonPrefix."""
        from octad.client.objects.listing import list_pages

        async with aclosing(
            list_pages(self._caller, self.name, prefix, delimiter, start_after, deadline)
        ) as pages:
            async for page in pages:
                for item in page:
                    yield item

    # Writing.

    async def put(
        self,
        key: str,
        data: Source,
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
        target = target_of(
            self.name,
            key,
            content_type=content_type,
            content_encoding=content_encoding,
            cache_control=cache_control,
            metadata=metadata,
            tags=tags,
            if_match=if_match,
            if_none_match=if_none_match,
            if_version=if_version,
            deadline=deadline,
        )
        if isinstance(data, bytes) and len(data) <= SINGLE_PUT_BYTES_MAX:
            return await self._put_whole(target, data)
        parts = await parts_of(data, self._caller.runtime)
        try:
            if parts.length is not None and parts.length <= SINGLE_PUT_BYTES_MAX:
                return await self._put_whole(target, await parts.all())
            first = [await parts.next(), await parts.next()]
            if not len(first[1]):
                return await self._put_whole(target, first[0])
            from octad.client.objects.multipart import put_in_parts

            return await put_in_parts(self._caller, target, first, parts, resume=resume)
        finally:
            await parts.close()

    async def _put_whole(self, target: Target, data: bytes | bytearray | memoryview) -> Written:
        request = Request(
            "PUT",
            target.bucket,
            target.key,
            headers={**target.headers, **target.conditions},
            body=data,
            checksum=True,
            invocation=new_invocation(),
        )
        answer = await self._caller.whole(request, target.deadline_s)
        return written(target.key, len(data), answer.head.headers)

    async def append(
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
        if offset is None:
            try:
                offset = (await self.head(key, deadline=deadline)).size
            except ObjectNotFound:
                offset = 0
        headers = {"x-amz-write-offset-bytes": str(offset)}
        return await self._put_whole(Target(self.name, key, headers, {}, deadline), data)

    async def copy(
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
        from octad.client.calls.documents import text_of
        from octad.client.calls.refusals import document_of

        copied = uri_encode_path(f"/{source_bucket or self.name}/{source}".encode())
        headers = {
            "x-amz-copy-source": copied,
            **Condition(if_match, if_none_match, if_version).headers(),
        }
        invocation = new_invocation()
        request = Request(
            "PUT", self.name, key, headers=headers, invocation=invocation, is_slow=True
        )
        answer = await self._caller.whole(request, deadline)
        etag = text_of(document_of(answer.body, request), "ETag").strip('"')
        return written(key, 0, answer.head.headers)._replace(etag=etag)

    async def delete(
        self,
        key: str,
        *,
        if_match: str = "",
        if_version: str = "",
        deadline: float | None = None,
    ) -> None:
        """Remove an object; that it is not there is no error."""
        condition = Condition(if_match, "", if_version).headers()
        request = Request("DELETE", self.name, key, headers=condition, invocation=new_invocation())
        await self._caller.whole(request, deadline)

    async def delete_many(
        self, keys: Iterable[str], *, deadline: float | None = None
    ) -> Sequence[DeleteFailure]:
        """Remove objects, a thousand a request; returns those that were not.

        `deadline` is of each request.
        """
        failures: Sequence[DeleteFailure] = ()
        batch: list[str] = []
        for key in keys:
            batch.append(key)
            if len(batch) == LIST_KEYS_MAX:
                failures = (*failures, *await self._delete_batch(batch, deadline))
                batch = []
        return (*failures, *await self._delete_batch(batch, deadline)) if batch else failures

    async def _delete_batch(
        self, keys: Sequence[str], deadline: float | None
    ) -> Sequence[DeleteFailure]:
        from octad.client.calls.documents import delete_document, text_of
        from octad.client.calls.refusals import document_of

        request = Request(
            "POST",
            self.name,
            query="delete=",
            body=delete_document(keys),
            checksum=True,
            invocation=new_invocation(),
        )
        answer = await self._caller.whole(request, deadline)
        return tuple(
            DeleteFailure(text_of(error, "Key"), text_of(error, "Code"), text_of(error, "Message"))
            for error in document_of(answer.body, request).iter("Error")
        )

    async def tags(self, key: str, *, deadline: float | None = None) -> dict[str, str]:
        """The object's tags."""
        from octad.client.calls.documents import text_of
        from octad.client.calls.refusals import document_of

        request = Request("GET", self.name, key, query="tagging=")
        document = document_of((await self._caller.whole(request, deadline)).body, request)
        return {text_of(tag, "Key"): text_of(tag, "Value") for tag in document.iter("Tag")}

    async def set_tags(
        self, key: str, tags: Mapping[str, str], *, deadline: float | None = None
    ) -> None:
        """These are the object's tags, and no others."""
        from octad.client.calls.documents import tagging_document

        request = Request(
            "PUT",
            self.name,
            key,
            query="tagging=",
            body=tagging_document(dict(tags)),
            checksum=True,
            invocation=new_invocation(),
        )
        await self._caller.whole(request, deadline)

    # For others.

    async def presign(self, key: str, *, method: str = "GET", expires_s: int = 3600) -> str:
        """A URL with which anyone may do `method` with the object for `expires_s` seconds."""
        from octad.client.objects.presigning import presigned_url

        return presigned_url(
            await self._caller.some_address(),
            self._caller.settings,
            self.name,
            key,
            method,
            expires_s,
        )

    async def presign_post(
        self, key: str, *, bytes_max: int, expires_s: int = 3600
    ) -> PresignedPost:
        """A form with which a browser may put one object of up to `bytes_max` bytes there.

        `key` may end with `${filename}`.
        """
        from octad.client.objects.presigning import presigned_post

        return presigned_post(
            await self._caller.some_address(),
            self._caller.settings,
            self.name,
            key,
            bytes_max,
            expires_s,
        )
