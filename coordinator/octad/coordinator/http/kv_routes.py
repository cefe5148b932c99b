"""Settings over HTTP. Reads are signed, too: what services configure may be a secret."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from octad.client.kv.kv_records import KV_PATH, KvAnswer
from octad.coordinator.http.http_answers import (
    json_answer,
    min_revision_of,
    revision_of,
    wait_of,
)
from octad.coordinator.http.http_watches import HttpWatches
from octad.coordinator.kv.kv_store import KvStore


class KvRoutes:
    """The handlers; `by_name` are all of them. They are called for authentic requests only."""

    def __init__(self, kv: KvStore, watches: HttpWatches) -> None:
        self._kv = kv
        self._watches = watches
        self.by_name: dict[str, Handler] = {
            "kv-keys": self._keys,
            "kv-get": self._get,
            "kv-put": self._put,
            "kv-delete": self._delete,
        }

    async def _keys(self, request: web.Request) -> web.Response:
        await self._reach(request)
        prefix, after = request.query.get("prefix", ""), revision_of(request, "after")
        with self._watches.room():
            keys = await self._kv.list(prefix, after, wait_of(request))
        return json_answer(keys, age_s=keys.age_s)

    async def _get(self, request: web.Request) -> web.Response:
        await self._reach(request)
        key, after = request.match_info["key"], revision_of(request, "after")
        with self._watches.room():
            entry = await self._kv.get(key, after, wait_of(request))
        return json_answer(entry, age_s=entry.age_s)

    async def _put(self, request: web.Request) -> web.Response:
        return json_answer(await self._change(request, await request.read()))

    async def _delete(self, request: web.Request) -> web.Response:
        return json_answer(await self._change(request, None))

    async def _change(self, request: web.Request, value: bytes | None) -> KvAnswer:
        if_revision = revision_of(request, "if_revision")
        return await self._kv.change(request.match_info["key"], value, if_revision)

    async def _reach(self, request: web.Request) -> None:
        if (revision := min_revision_of(request)) is not None:
            await self._kv.reach(revision)


def is_of_kv(request: web.Request) -> bool:
    """Whether it is about settings."""
    return f"{request.path}/".startswith(f"{KV_PATH}/")
