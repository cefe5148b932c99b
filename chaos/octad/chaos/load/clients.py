"""The clients of a run: each at one node, one request after another, each tried once and recorded.

What a client reads it checks byte by byte. It never decides whether what it saw was allowed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from octad.chaos.load.bodies import ForeignBytes, body_of, etag_of, etag_of_parts, value_of
from octad.chaos.load.history import ANY, NOT_MET, Kind, Outcome
from octad.chaos.load.recorder import Recorder
from octad.chaos.load.s3_requests import NO_ANSWER, Refused, S3Requests
from octad.chaos.load.workload import CLASSES, Choice, Habit, KeyClass, all_keys, choose

BUCKET = "chaos"
THINK_S_MAX = 0.03
AFTER_ERROR_S = 0.05
READ_ALL_S_MAX = 30.0
TIMEOUT_S = 40.0  # Longer than a node's own timeout, so that the node gives up first.
THREADED_BYTES = 256 * 1024
NOT_FOUND = 404
CONDITIONAL = 0.4  # Share of PUTs with a condition, where the client knows the present value.

_A = TypeVar("_A", bytes, list[bytes])


class Client:
    """`run()` until `stop()`. `values` maps entity tags to writes, for all clients together."""

    def __init__(
        self,
        number: int,
        node: int,
        requests: S3Requests,
        recorder: Recorder,
        seed: str,
        values: dict[str, str],
        habit: Habit = Habit.PATIENT,
        classes: Sequence[KeyClass] = CLASSES,
    ) -> None:
        self._number = number
        self._node = node
        self._requests = requests
        self._recorder = recorder
        self._draw = random.Random(f"{seed}/{number}").random
        self._values = values
        self._habit = habit
        self._classes = classes
        self._written = 0
        self._seen: dict[str, str | None] = {}  # The last known value of keys that are put at once.
        self._stopping = False

    def stop(self) -> None:
        """End after the request that is under way."""
        self._stopping = True

    async def run(self) -> None:
        while not self._stopping:
            choice = choose(self._draw, self._habit, self._classes)
            while not await self.do(choice) and not self._stopping:
                await asyncio.sleep(AFTER_ERROR_S)
                if self._habit is not Habit.PATIENT:
                    break
            await asyncio.sleep(self._draw() * THINK_S_MAX)

    async def read_all(self) -> None:
        """Read every key and the list once; refused reads are retried for a while."""
        choices = [
            Choice(Kind.GET, key_class, (key,))
            for key_class in self._classes
            for key in key_class.keys
        ]
        choices.append(Choice(Kind.LIST, self._classes[0], all_keys(self._classes)))
        give_up = self._recorder.now() + READ_ALL_S_MAX
        for choice in choices:
            while not await self.do(choice) and self._recorder.now() < give_up:
                await asyncio.sleep(AFTER_ERROR_S)

    async def do(self, choice: Choice) -> bool:
        """One request; False when it was an error."""
        match choice.kind:
            case Kind.PUT if len(choice.key_class.part_sizes) > 1:
                return await self._upload(choice)
            case Kind.PUT:
                return await self._put(choice)
            case Kind.DELETE:
                return await self._delete(choice)
            case Kind.GET:
                return await self._get(choice)
            case Kind.LIST:
                return await self._list(choice)

    async def _put(self, choice: Choice) -> bool:
        key, recorder = choice.keys[0], self._recorder
        value, size = self._next_value(), choice.key_class.size
        body = body_of(value, size)
        self._values[await _computed(etag_of, body)] = value
        if_match = self._seen.pop(key, ANY) if self._draw() < CONDITIONAL else ANY
        condition = {} if if_match == ANY else await _computed_condition(if_match, size)
        asked = recorder.invoke(self._number, self._node, Kind.PUT, choice.keys, value, if_match)
        try:
            await self._requests.put(BUCKET, key, body, condition)
        except Refused as error:
            if condition and error.status in NOT_MET:
                recorder.answer(asked, Outcome.OK, error.status)
                return True
            recorder.answer(asked, _outcome_of(error), error.status, error=error.code)
            return False
        except NO_ANSWER as error:
            recorder.answer(asked, Outcome.UNKNOWN, error=repr(error))
            return False
        recorder.answer(asked, Outcome.OK, 200)
        self._seen[key] = value
        return True

    async def _upload(self, choice: Choice) -> bool:
        """Nothing is written before the last request, so an earlier error means no effect."""
        key, recorder, value = choice.keys[0], self._recorder, self._next_value()
        parts = _parts_of(body_of(value, choice.key_class.size), choice.key_class.part_sizes)
        etags = [await _computed(etag_of, part) for part in parts]
        self._values[await _computed(etag_of_parts, parts)] = value
        asked = recorder.invoke(self._number, self._node, Kind.PUT, choice.keys, value)
        failed = Outcome.FAILED
        try:
            upload = await self._requests.begin_upload(BUCKET, key)
            for number, part in enumerate(parts, 1):
                await self._requests.put_part(BUCKET, key, upload, number, part)
            failed = Outcome.UNKNOWN
            await self._requests.complete_upload(BUCKET, key, upload, etags)
        except Refused as error:
            if _outcome_of(error) is Outcome.FAILED:
                failed = Outcome.FAILED
            recorder.answer(asked, failed, error.status, error=error.code)
            return False
        except NO_ANSWER as error:
            recorder.answer(asked, failed, error=repr(error))
            return False
        recorder.answer(asked, Outcome.OK, 200)
        return True

    async def _delete(self, choice: Choice) -> bool:
        asked = self._recorder.invoke(self._number, self._node, Kind.DELETE, choice.keys)
        try:
            await self._requests.delete(BUCKET, choice.keys[0])
        except Refused as error:
            self._recorder.answer(asked, _outcome_of(error), error.status, error=error.code)
            return False
        except NO_ANSWER as error:
            self._recorder.answer(asked, Outcome.UNKNOWN, error=repr(error))
            return False
        self._recorder.answer(asked, Outcome.OK, 204)
        return True

    async def _get(self, choice: Choice) -> bool:
        key, recorder = choice.keys[0], self._recorder
        asked = recorder.invoke(self._number, self._node, Kind.GET, choice.keys)
        try:
            body = await self._requests.get(BUCKET, key)
        except Refused as error:
            if error.status == NOT_FOUND:
                self._saw(choice, None)
                recorder.answer(asked, Outcome.OK, error.status, {key: None})
                return True
            recorder.answer(asked, Outcome.FAILED, error.status, error=error.code)
            return False
        except NO_ANSWER as error:
            recorder.answer(asked, Outcome.FAILED, error=repr(error))
            return False
        returned = recorder.now()
        try:
            value = await _computed(value_of, body)
            self._saw(choice, value)
            recorder.answer(asked, Outcome.OK, 200, {key: value}, returned)
        except ForeignBytes as error:
            recorder.answer(asked, Outcome.OK, 200, error=str(error))
        return True

    async def _list(self, choice: Choice) -> bool:
        recorder = self._recorder
        asked = recorder.invoke(self._number, self._node, Kind.LIST, choice.keys)
        try:
            etags = await self._requests.list(BUCKET)
        except Refused as error:
            recorder.answer(asked, Outcome.FAILED, error.status, error=error.code)
            return False
        except NO_ANSWER as error:
            recorder.answer(asked, Outcome.FAILED, error=repr(error))
            return False
        seen: dict[str, str | None] = {}
        for key in choice.keys:
            etag = etags.get(key)
            if etag is None or etag in self._values:
                seen[key] = None if etag is None else self._values[etag]
        recorder.answer(asked, Outcome.OK, 200, seen)
        return True

    def _saw(self, choice: Choice, value: str | None) -> None:
        if len(choice.key_class.part_sizes) == 1:
            self._seen[choice.keys[0]] = value

    def _next_value(self) -> str:
        self._written += 1
        return f"v{self._number}.{self._written}"


def _outcome_of(error: Refused) -> Outcome:
    """Only a 4xx promises that nothing happened."""
    return Outcome.FAILED if 400 <= error.status < 500 else Outcome.UNKNOWN


def _parts_of(body: bytes, sizes: Sequence[int]) -> list[bytes]:
    parts, start = [], 0
    for size in sizes:
        parts.append(body[start : start + size])
        start += size
    return parts


async def _computed_condition(if_match: str | None, size: int) -> dict[str, str]:
    """The header that says what has to stand at the key."""
    if if_match is None:
        return {"if-none-match": "*"}
    return {"if-match": await _computed(etag_of, body_of(if_match, size))}


async def _computed(of: Callable[[_A], str], data: _A) -> str:
    """`of(data)`, in a thread where it takes long: the proxies share this loop."""
    if len(data) < THREADED_BYTES and isinstance(data, bytes):
        return of(data)
    return await asyncio.to_thread(of, data)
