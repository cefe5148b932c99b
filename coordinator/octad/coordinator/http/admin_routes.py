"""The admin API: `/cluster/v1/admin/…`, signed with SigV4 by the access key of an admin.

The service's guard calls `authenticate` before anything else looks at such a request,
for any method, and whether the path exists or not.
"""

from __future__ import annotations

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from octad.coordinator.admin.admin_signature import (
    SignedRequest,
    Signer,
    check_admin,
    claimed_key,
)
from octad.coordinator.admin.bucket_quotas import BucketQuotas
from octad.coordinator.admin.owner_keys import OwnerKeys
from octad.coordinator.admin.public_buckets import PublicBuckets
from octad.coordinator.http.http_answers import json_answer
from octad.coordinator.schema.admin_messages import (
    ADMIN_PATH,
    CreateKeyRequest,
    PublicRequest,
    QuotaRequest,
)
from octad.coordinator.schema.join_messages import REGION
from octad.coordinator.server.coordinator import Coordinator


def is_for_admins(request: web.Request) -> bool:
    """Whether the decoded path or the matched route is under the admin prefix."""
    resource = request.match_info.route.resource
    paths = (request.path, resource.canonical if resource is not None else "")
    return any(f"{path}/".startswith(ADMIN_PATH) for path in paths)


class AdminRoutes:
    """`by_name`: the handlers. Each is called for authenticated requests only, or fails."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._keys = OwnerKeys(coordinator.store, coordinator.config.token)
        self._quotas = BucketQuotas(coordinator.store, coordinator.keys)
        self._public = PublicBuckets(coordinator.store, coordinator.keys)
        self._signers: dict[int, Signer] = {}  # By `id(request)`, until it is answered.
        self.by_name: dict[str, Handler] = {
            "admin-keys": self._list_keys,
            "admin-create-key": self._create_key,
            "admin-disable-key": self._disable_key,
            "admin-remove-key": self._remove_key,
            "admin-buckets": self._list_buckets,
            "admin-set-quota": self._set_quota,
            "admin-allow-public": self._allow_public,
        }

    async def authenticate(self, request: web.Request, body: bytes, now_s: float) -> None:
        """Raises NotAdmin, StoreUnavailable, BadRecord."""
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            known = headers.get(name.lower())
            headers[name.lower()] = value if known is None else f"{known},{value}"
        signed = SignedRequest(request.method, request.raw_path, headers, body)
        signer = await self._keys.signer(claimed_key(signed, now_s, REGION))
        check_admin(signed, signer, now_s, REGION)
        assert signer is not None, "nobody has signed"
        self._signers[id(request)] = signer

    def answered(self, request: web.Request) -> None:
        """Forget the request, signed or not."""
        self._signers.pop(id(request), None)

    async def _list_keys(self, request: web.Request) -> web.Response:
        self._admin(request)
        return json_answer(await self._keys.all_keys())

    async def _create_key(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=CreateKeyRequest)
        access_key = request.match_info["access_key"]
        return json_answer(await self._keys.create(access_key, wanted, self._admin(request)))

    async def _disable_key(self, request: web.Request) -> web.Response:
        access_key = request.match_info["access_key"]
        return json_answer(await self._keys.disable(access_key, self._admin(request)))

    async def _remove_key(self, request: web.Request) -> web.Response:
        await self._keys.remove(request.match_info["access_key"], self._admin(request))
        return json_answer({})

    async def _list_buckets(self, request: web.Request) -> web.Response:
        self._admin(request)
        return json_answer(await self._quotas.all_buckets())

    async def _set_quota(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=QuotaRequest)
        bucket = request.match_info["bucket"]
        return json_answer(await self._quotas.set_quota(bucket, wanted, self._admin(request)))

    async def _allow_public(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=PublicRequest)
        bucket = request.match_info["bucket"]
        return json_answer(await self._public.allow(bucket, wanted, self._admin(request)))

    def _admin(self, request: web.Request) -> Signer:
        """Returns the signer; a request that got past the guard unsigned fails here."""
        return self._signers[id(request)]
