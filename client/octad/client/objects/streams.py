"""An object's bytes as they come. Where a node fails in the middle, another one goes on."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from octad.client.calls.caller import Caller
from octad.client.calls.exchanges import Answer
from octad.client.calls.requests import Request
from octad.client.errors import CannotReach
from octad.client.http.transport import ConnectionFailed
from octad.client.objects.headers import Condition, range_header
from octad.client.objects.results import ObjectInfo
from octad.client.objects.verification import Verifier

RESUMED_MAX: Final = 8  # Times, without a byte between.


class ObjectStream:
    """`async with` it, then `async for`, or `read`. `info` is known once it has been entered.

    The checksum is compared at the end: what was read before is not proved until then.
    """

    def __init__(
        self,
        caller: Caller,
        bucket: str,
        key: str,
        start: int,
        end: int | None,
        if_match: str,
        deadline_s: float | None,
    ) -> None:
        self._caller = caller
        self._bucket = bucket
        self._key = key
        self._start = start
        self._end = end
        self._if_match = if_match
        self._last = 0  # Not included; known once it has been opened.
        self._deadline_s = deadline_s
        self._answer: Answer | None = None
        self._info: ObjectInfo | None = None
        self._verifier = Verifier(key, {})
        self._failures = 0
        self._rest = b""

    @property
    def info(self) -> ObjectInfo:
        """What is known of the object."""
        assert self._info is not None, "a stream is entered first: async with bucket.stream(key)"
        return self._info

    @property
    def range(self) -> tuple[int, int]:
        """From which byte of the object it goes on, and before which it ends."""
        return self._start, self._last

    async def __aenter__(self) -> Self:
        ranged = self._start != 0 or self._end is not None
        headers = {"x-amz-checksum-mode": "ENABLED"}
        if ranged:
            headers["range"] = range_header(self._start, self._end)
        if self._if_match:
            headers |= Condition(self._if_match).headers()
        answer = await self._opened(headers)
        self._info = ObjectInfo.of_headers(self._key, answer.head.headers)
        self._verifier = Verifier(self._key, answer.head.headers)
        content_range = answer.head.headers.get("content-range", "")
        if content_range:  # "bytes 5-9/10": where it begins and ends is the server's word.
            first, _, last = content_range.removeprefix("bytes ").partition("/")[0].partition("-")
            self._start, self._last = int(first), int(last) + 1
        else:
            self._start, self._last = 0, self._info.size
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = await self.next_piece()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def read(self, size: int = -1) -> bytes:
        """`size` bytes, fewer at the end; all that is left without a size."""
        pieces, found = [self._rest], len(self._rest)
        self._rest = b""
        while size < 0 or found < size:
            piece = await self.next_piece()
            if not piece:
                break
            pieces.append(piece)
            found += len(piece)
        data = b"".join(pieces)
        if size < 0:
            return data
        self._rest = data[size:]
        return data[:size]

    async def next_piece(self) -> bytes:
        """The next bytes, as many as there are; b"" at the end. Raises OctadError."""
        if self._rest:
            piece, self._rest = self._rest, b""
            return piece
        while True:
            try:
                if self._answer is None:
                    if self._start >= self._last:
                        return b""
                    self._answer = await self._resumed()
                piece = await self._answer.read_piece()
            except ConnectionFailed as failure:
                self._answer = None
                self._failures += 1
                if self._failures > RESUMED_MAX:
                    what = (
                        f"reading {self._bucket}/{self._key} broke off at {self._start}: {failure}"
                    )
                    raise CannotReach(what, "read on from there (start=)") from failure
                continue
            if piece:
                self._failures = 0
                self._start += len(piece)
                self._verifier.update(piece)
            else:
                self._verifier.finish()
            return piece

    def close(self) -> None:
        """A second time does nothing."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()

    async def _resumed(self) -> Answer:
        headers = {"range": range_header(self._start, self._last)}
        if self.info.etag:
            headers["if-match"] = f'"{self.info.etag}"'
        return await self._opened(headers)

    async def _opened(self, headers: dict[str, str]) -> Answer:
        request = Request("GET", self._bucket, self._key, headers=headers)
        self._answer = await self._caller.opened(request, self._deadline_s)
        return self._answer
