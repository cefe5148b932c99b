"""What calls of obspec return and raise: it knows errors by the names of their types."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import finalize

from octad.client.errors import AccessDenied, ConditionFailed, NotFound
from octad.client.http.blocking import drive
from octad.client.objects.results import ObjectInfo, Written
from octad.client.objects.streams import ObjectStream

if TYPE_CHECKING:
    from obspec import Attributes, ObjectMeta, PutResult

_ATTRIBUTES = {
    "Content-Type": "content_type",
    "Content-Encoding": "content_encoding",
    "Cache-Control": "cache_control",
}


class NotFoundError(FileNotFoundError):
    """There is no such object, or bucket."""


class AlreadyExistsError(FileExistsError):
    """There is an object already, and none was to be there."""


class PreconditionError(Exception):
    """Something else stands there than the condition named."""


class PermissionDeniedError(PermissionError):
    """These keys may not do that."""


class NotSupportedError(ValueError):
    """octad has nothing for this option."""


@contextmanager
def as_obspec_says_it(*, create: bool = False) -> Iterator[None]:
    """`create`: the condition was that there is none."""
    try:
        yield
    except NotFound as error:
        raise NotFoundError(str(error)) from error
    except ConditionFailed as error:
        raise (AlreadyExistsError if create else PreconditionError)(str(error)) from error
    except AccessDenied as error:
        raise PermissionDeniedError(str(error)) from error


class Result:
    """An object that was opened: in either face its bytes come as they are asked for, once."""

    def __init__(self, stream: ObjectStream, *, without_bytes: bool = False) -> None:
        self._stream = stream
        finalize(self, stream.close)
        self.meta: ObjectMeta = meta_of(stream.info)
        self.attributes: Attributes = {
            name: value
            for name, attribute in _ATTRIBUTES.items()
            if (value := getattr(stream.info, attribute))
        } | stream.info.metadata
        self.range: tuple[int, int] = stream.range
        if without_bytes:
            stream.close()

    def buffer(self) -> bytes:
        return drive(self._stream.read())

    def __iter__(self) -> Iterator[bytes]:
        while piece := drive(self._stream.next_piece()):
            yield piece

    async def buffer_async(self) -> bytes:
        return await self._stream.read()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self._stream.next_piece():
            yield piece


def meta_of(info: ObjectInfo) -> ObjectMeta:
    return {
        "path": info.key,
        "last_modified": info.modified,
        "size": info.size,
        "e_tag": info.etag,
        "version": info.version or None,
    }


def put_result_of(done: Written) -> PutResult:
    return {"e_tag": done.etag, "version": done.version or None}


def put_arguments(attributes: Attributes | None) -> dict[str, Any]:
    """`AsyncBucket.put`'s arguments. Raises NotSupportedError."""
    arguments: dict[str, Any] = {"metadata": {}}
    for name, value in (attributes or {}).items():
        if name in _ATTRIBUTES:
            arguments[_ATTRIBUTES[name]] = value
        elif name in ("Content-Disposition", "Content-Language"):
            raise NotSupportedError(f"the SDK stores no {name}")
        else:
            arguments["metadata"][name] = value
    return arguments
