"""Clients that write, delete, read, list and upload through all nodes, and check every answer.

Each key has one writer, so what a read may answer is known: a state that the key had, or was about
to get, while the read was under way. Nothing is tried again. A key whose write had no answer is
written no more.
"""

from __future__ import annotations

import asyncio
import io
import random
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import wait
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

import aiohttp
from tests.harness.cluster_process import DevCluster

from octad.client.s3.sigv4 import Credentials, sign_request
from octad.sharding.limits import KIB
from octad.storage_node.s3.protocol.xml.documents import NAMESPACE

NO_ANSWER = (aiohttp.ClientError, OSError, TimeoutError)
ANSWER_S_MAX = 60.0
SMALL, LARGE, OF_PIECES = 700, 300 * KIB, 2_500_000
PAGE_KEYS = 60
KEYS_EACH = 30
AT_ONCE = 16
PAUSE_S = 0.03  # Each client's, so that nodes get CPU time on a small machine.
AWAY_PAUSE_S = 0.5  # After a request to a node that is away: each leaves a key behind.
_S3 = {"s3": NAMESPACE}


class NoAnswer(Exception):
    """The node was away, as it may have been."""


class WrongAnswer(AssertionError):
    """What no client may ever see."""


@dataclass(slots=True, eq=False)
class Key:
    """`sizes` of all its versions, None where it was deleted; `acked` was acknowledged."""

    name: str
    sizes: list[int | None] = field(default_factory=lambda: [None])
    acked: int = 0

    def body(self, version: int) -> bytes | None:
        size = self.sizes[version]
        return None if size is None else random.Random(f"{self.name} {version}").randbytes(size)

    def may_be(self, since: int) -> list[bytes | None]:
        return [self.body(version) for version in range(since, len(self.sizes))]

    def is_settled(self) -> bool:
        return self.acked == len(self.sizes) - 1


@dataclass(frozen=True, slots=True)
class Upload:
    """One that stays open for a while, with one part."""

    key: Key
    id: str
    etag: str


class CheckedLoad:
    """`working` runs it in a thread; everything else may be called meanwhile."""

    def __init__(
        self, cluster: DevCluster, bucket: str, seed: int, *, pause_s: float = PAUSE_S
    ) -> None:
        self.cluster = cluster
        self.bucket = bucket
        self.pause_s = pause_s
        self.keys: list[Key] = []
        self.unavailable: list[tuple[float, int, str]] = []  # 503s: when, where, what.
        self.longest_s: dict[str, float] = {}
        self.requests = 0
        self.rounds = [0] * len(cluster.nodes)  # Listings of everything, by node.
        self._away: list[list[tuple[float, float]]] = [[] for _ in cluster.nodes]
        self._endpoints = [cluster.endpoint(place) for place in range(len(cluster.nodes))]
        self._data = cluster.data
        self._credentials = Credentials(cluster.access_key, cluster.secret_key)
        self._random = random.Random(seed)
        self._uploads: list[Upload] = []
        self._stop = threading.Event()
        self.failure: BaseException | None = None  # What a client has met.
        self._begun = threading.Event()

    # -- for the test --------------------------------------------------------------------------

    @contextmanager
    def working(self) -> Iterator[None]:
        """Clients at all nodes from here to the end of the block; raises what they met."""
        self._stop.clear()
        self._begun.clear()
        thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="checked load")
        thread.start()
        try:
            self._begun.wait()
            self.check()
            yield
        finally:
            self._stop.set()
            thread.join()
        self.check()

    def check(self) -> None:
        """Raises what a client has met."""
        if self.failure is not None:
            raise self.failure

    def away(self, place: int) -> Callable[[], None]:
        """From now on a node need not answer; call what this gives once it must again."""
        begun = time.monotonic()
        self._away[place].append((begun, float("inf")))
        at = len(self._away[place]) - 1

        def back() -> None:
            self._away[place][at] = (begun, time.monotonic())

        return back

    def check_all_at(self, place: int) -> None:
        """Every key is read there, and everything is listed."""
        self._do(self._check_all(place))

    def renew_uploads(self, place: int) -> None:
        """Complete the open uploads there and read what they have made; begin others."""
        self._do(self._renew_uploads(place))

    def _do(self, work: Coroutine[None, None, None]) -> None:
        done = asyncio.run_coroutine_threadsafe(work, self._loop)
        while not wait([done], timeout=0.2).done:
            self.check()  # Nothing is done any more once a client has met something.
        done.result()
        self.check()

    # -- its life ------------------------------------------------------------------------------

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            async with AsyncExitStack() as cleanup:
                timeout = aiohttp.ClientTimeout(total=ANSWER_S_MAX)
                session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
                self._session = await cleanup.enter_async_context(session)
                if not self.keys:
                    await self._ask(0, "PUT")
                    await self._begin_uploads(0)
                self._begun.set()
                async with asyncio.TaskGroup() as group:
                    for place in range(len(self._endpoints)):
                        group.create_task(self._write(place))
                        group.create_task(self._read(place))
                        group.create_task(self._list(place))
        except BaseExceptionGroup as group_error:
            self.failure = group_error.exceptions[0]
        except BaseException as error:
            self.failure = error
        finally:
            self._begun.set()

    async def _for_ever(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        while not self._stop.is_set():
            try:
                await work()
            except NoAnswer:
                await asyncio.sleep(AWAY_PAUSE_S)
            await asyncio.sleep(self.pause_s)

    # -- writing -------------------------------------------------------------------------------

    async def _write(self, place: int) -> None:
        mine: list[Key] = []

        async def one() -> None:
            mine[:] = [key for key in mine if key.is_settled()]
            while len(mine) < KEYS_EACH:
                mine.append(Key(f"{place}/{len(self.keys)}"))
                self.keys.append(mine[-1])
            await self._change(place, self._random.choice(mine))

        await self._for_ever(one)

    async def _change(self, place: int, key: Key) -> None:
        chance = self._random.random()
        exists = key.sizes[-1] is not None
        if exists and chance < 0.15:
            await self._next(key, None, self._ask(place, "DELETE", key.name))
        elif chance < 0.25:
            await self._upload(place, key, SMALL if chance < 0.2 else LARGE)
        else:
            size = OF_PIECES if chance > 0.98 else LARGE if chance > 0.9 else SMALL
            body = self._body_of_next(key, size)
            await self._next(key, size, self._ask(place, "PUT", key.name, body=body))

    @staticmethod
    def _body_of_next(key: Key, size: int) -> bytes:
        body = Key(key.name, [*key.sizes, size]).body(len(key.sizes))
        assert body is not None
        return body

    @staticmethod
    async def _next(key: Key, size: int | None, request: Coroutine[None, None, object]) -> None:
        key.sizes.append(size)
        await request
        key.acked = len(key.sizes) - 1

    async def _upload(self, place: int, key: Key, size: int) -> None:
        upload = await self._begin_upload(place, key, self._body_of_next(key, size))
        await self._complete(place, upload, size)

    async def _begin_upload(self, place: int, key: Key, body: bytes) -> Upload:
        begun = await self._ask(place, "POST", key.name, "uploads=")
        id_ = _found(begun.content, "s3:UploadId")[0]
        part = await self._ask(place, "PUT", key.name, f"partNumber=1&uploadId={id_}", body)
        return Upload(key, id_, part.headers["ETag"])

    async def _complete(self, place: int, upload: Upload, size: int) -> None:
        part = f"<Part><PartNumber>1</PartNumber><ETag>{upload.etag}</ETag></Part>"
        body = f'<CompleteMultipartUpload xmlns="{NAMESPACE}">{part}</CompleteMultipartUpload>'
        query = f"uploadId={upload.id}"
        request = self._ask(place, "POST", upload.key.name, query, body.encode())
        await self._next(upload.key, size, request)

    async def _begin_uploads(self, place: int) -> None:
        for number, size in enumerate((SMALL, LARGE)):
            key = Key(f"open/{len(self.keys)}-{number}")
            self.keys.append(key)
            upload = await self._begin_upload(place, key, self._body_of_next(key, size))
            self._uploads.append(upload)

    async def _renew_uploads(self, place: int) -> None:
        finished, self._uploads = self._uploads, []
        for upload, size in zip(finished, (SMALL, LARGE), strict=True):
            await self._complete(place, upload, size)
            await self._check_key(place, upload.key, "GET")
        await self._begin_uploads(place)

    # -- reading -------------------------------------------------------------------------------

    async def _read(self, place: int) -> None:
        async def one() -> None:
            if self.keys:
                method = "HEAD" if self._random.random() < 0.2 else "GET"
                await self._check_key(place, self._random.choice(self.keys), method)

        await self._for_ever(one)

    async def _check_key(self, place: int, key: Key, method: str) -> None:
        since = key.acked
        answer = await self._ask(place, method, key.name, missing=True)
        may_be = key.may_be(since)
        if method == "HEAD":
            size = None if answer.status == 404 else int(answer.headers["Content-Length"])
            right = size in [None if body is None else len(body) for body in may_be]
        else:
            right = (None if answer.status == 404 else answer.content) in may_be
        if not right:
            what = f"{answer.status} and {len(answer.content)} bytes"
            wanted = f"versions {since} to {len(key.sizes) - 1} are {key.sizes[since:]}"
            raise WrongAnswer(f"{method} {key.name} at node {place}: {what}; {wanted}")

    async def _list(self, place: int) -> None:
        async def one() -> None:
            await self._check_listing(place)
            await self._check_uploads(place)
            self.rounds[place] += 1

        await self._for_ever(one)

    async def _check_listing(self, place: int) -> None:
        since = [(key, key.acked) for key in self.keys]
        found: dict[str, int] = {}
        query = f"list-type=2&max-keys={PAGE_KEYS}"
        token = ""
        while True:
            more = f"continuation-token={quote(token, safe='')}&" if token else ""
            content = (await self._ask(place, "GET", "", more + query)).content
            names = _found(content, "s3:Contents/s3:Key")
            sizes = map(int, _found(content, "s3:Contents/s3:Size"))
            if not found.keys().isdisjoint(names):
                raise WrongAnswer(f"a listing at node {place} names a key twice")
            found.update(zip(names, sizes, strict=True))
            token = next(iter(_found(content, "s3:NextContinuationToken")), "")
            if not token:
                break
        wrong = [
            f"{key.name} is {found.get(key.name)}, not {key.sizes[first:]}"
            for key, first in since
            if found.get(key.name) not in key.sizes[first:]
        ]
        if wrong:
            raise WrongAnswer(f"a listing at node {place}: {wrong}")

    async def _check_uploads(self, place: int) -> None:
        uploads = list(self._uploads)
        content = (await self._ask(place, "GET", "", "prefix=open%2F&uploads=")).content
        ids = _found(content, "s3:Upload/s3:UploadId")
        if set(uploads) - set(self._uploads):
            return  # They were completed meanwhile.
        lacking = {upload.id for upload in uploads} - set(ids)
        if lacking:
            raise WrongAnswer(f"a listing of uploads at node {place} lacks {lacking}")
        for upload in uploads:
            query = f"uploadId={upload.id}"
            answer = await self._ask(place, "GET", upload.key.name, query, missing=True)
            if upload not in self._uploads:
                return
            if answer.status == 404 or _found(answer.content, "s3:Part/s3:ETag") != [upload.etag]:
                raise WrongAnswer(f"a listing of parts at node {place}: {answer}")

    async def _check_all(self, place: int) -> None:
        keys = list(self.keys)
        for first in range(0, len(keys), AT_ONCE):
            group = keys[first : first + AT_ONCE]
            await asyncio.gather(*(self._check_key(place, key, "GET") for key in group))
        await self._check_listing(place)

    # -- requests ------------------------------------------------------------------------------

    async def _ask(
        self,
        place: int,
        method: str,
        key: str = "",
        query: str = "",
        body: bytes = b"",
        *,
        missing: bool = False,
    ) -> Answer:
        """Raises NoAnswer where that is allowed; a 404 is an answer where that may be `missing`."""
        endpoint = self._endpoints[place]
        path = f"/{self.bucket}/{key}" if key else f"/{self.bucket}"
        host = {"host": endpoint.removeprefix("http://")}
        added, _ = sign_request(
            method=method,
            path=path,
            query=query,
            headers=host,
            credentials=self._credentials,
            region="us-east-1",
            now=time.time(),
        )
        url = f"{endpoint}{path}{f'?{query}' if query else ''}"
        begun = time.monotonic()
        what = f"{method} {path}?{query} at node {place}"
        try:
            async with self._session.request(
                method, url, data=io.BytesIO(body), headers={**host, **added}
            ) as response:
                content = await response.read()
                answer = Answer(response.status, response.headers, content)
        except NO_ANSWER as error:
            if self._was_away(place, begun):
                raise NoAnswer from error
            raise WrongAnswer(f"{what}: {error!r}, and the node was there") from error
        self.requests += 1
        took_s = time.monotonic() - begun
        self.longest_s[method] = max(self.longest_s.get(method, 0.0), took_s)
        if answer.status == 503:
            self.unavailable.append((begun, place, f"{what} after {took_s:.1f} s: {content!r}"))
            raise NoAnswer
        if answer.status >= 300 and not (missing and answer.status == 404):
            raise WrongAnswer(f"{what}: {answer.status} {content[:300]!r}")
        return answer

    def _was_away(self, place: int, begun: float) -> bool:
        return any(end >= begun for _, end in self._away[place]) or self._begins_anew(place)

    def _begins_anew(self, place: int) -> bool:
        """Its log says that it has ended for that, and not yet that it is there again."""
        said = (self._data / f"n{place + 1}.log").read_text(errors="replace")
        return said.rfind("it begins anew") > said.rfind(" is ready")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node said."""

    status: int
    headers: Mapping[str, str]
    content: bytes


def _found(document: bytes, path: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(document).iterfind(path, _S3)]
