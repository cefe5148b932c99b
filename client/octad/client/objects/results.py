"""What calls return: objects, what is known of them, and what a write was answered."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

_METADATA: Final = "x-amz-meta-"
_ENCODED_WORD: Final = re.compile(r"=\?[\w-]+\?[bqBQ]\?")


class ObjectInfo:
    """An object without its bytes.

    From a listing only `key`, `size`, `etag` and `modified` are known; the rest is empty.
    """

    __slots__ = ("_headers", "_modified", "etag", "key", "size")

    def __init__(
        self, key: str, size: int, etag: str, modified: str, headers: Mapping[str, str]
    ) -> None:
        self.key = key
        self.size = size
        self.etag = etag
        self._modified = modified
        self._headers = headers

    @classmethod
    def of_headers(cls, key: str, headers: Mapping[str, str]) -> ObjectInfo:
        """From the headers of a GET or HEAD."""
        content_range = headers.get("content-range")
        size = content_range.rpartition("/")[2] if content_range else headers["content-length"]
        etag = headers.get("etag", "").strip('"')
        return cls(key, int(size), etag, headers.get("last-modified", ""), headers)

    def __repr__(self) -> str:
        return f"ObjectInfo({self.key!r}, size={self.size}, etag={self.etag!r})"

    @property
    def modified(self) -> datetime:
        """When it was written, in UTC: whole seconds, from a listing milliseconds."""
        from datetime import UTC, datetime

        from octad.client.s3.http_dates import parse_http_date

        second = parse_http_date(self._modified)
        if second is not None:
            return datetime.fromtimestamp(second, UTC)
        return datetime.fromisoformat(self._modified)

    @property
    def content_type(self) -> str:
        return self._headers.get("content-type", "")

    @property
    def content_encoding(self) -> str:
        return self._headers.get("content-encoding", "")

    @property
    def cache_control(self) -> str:
        return self._headers.get("cache-control", "")

    @property
    def metadata(self) -> dict[str, str]:
        """What was stored with the object, by names in lower case."""
        return {
            name.removeprefix(_METADATA): _plain_text(value)
            for name, value in self._headers.items()
            if name.startswith(_METADATA)
        }

    @property
    def version(self) -> str:
        """octad's token of this write and no other, for `if_version=`; "" of other servers."""
        return self._headers.get("x-octad-version", "")


class Object:
    """An object's bytes, or those that were asked for, with what is known of it.

    `bytes(o)` and `len(o)` are those of `data`; from Python 3.12 on it is a buffer itself.
    """

    __slots__ = ("data", "info")

    def __init__(self, info: ObjectInfo, data: bytes) -> None:
        self.info = info
        self.data = data

    def __repr__(self) -> str:
        return f"Object({self.info.key!r}, {len(self.data)} bytes)"

    def __bytes__(self) -> bytes:
        return self.data

    def __len__(self) -> int:
        return len(self.data)

    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(self.data)


class CommonPrefix(NamedTuple):
    """What stands for all keys that begin with it, up to and with the delimiter."""

    prefix: str


class Written(NamedTuple):
    """A write that is on every member of its shard.

    `size`: the object's, where it was appended to; else that of the bytes that were put.
    `version`: for `if_version=`; "" of servers that are not octad. `degraded`: "2/3" where fewer
    copies were made than its pool keeps.
    """

    key: str
    etag: str
    size: int
    version: str = ""
    degraded: str = ""


class BucketInfo(NamedTuple):
    """A bucket, as listings of them show it."""

    name: str
    created: str


class DeleteFailure(NamedTuple):
    """An object of many that was not deleted, and why."""

    key: str
    code: str
    message: str


def written(key: str, size: int, headers: Mapping[str, str]) -> Written:
    """From the answer to a write."""
    return Written(
        key,
        headers.get("etag", "").strip('"'),
        int(headers.get("x-amz-object-size", size)),
        headers.get("x-octad-version", ""),
        headers.get("x-octad-degraded", "").removeprefix("copies="),
    )


def _plain_text(value: str) -> str:
    """Metadata beyond ASCII comes in encoded words (RFC 2047)."""
    if _ENCODED_WORD.search(value) is None:
        return value
    from email.header import decode_header, make_header

    try:
        return str(make_header(decode_header(value)))
    except (LookupError, UnicodeDecodeError):
        return value
