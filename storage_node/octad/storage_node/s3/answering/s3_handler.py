"""From a request to its answer: the one place where both ways into the node meet.

`S3Handler.answer` authenticates a request before anything else of it is looked at (default deny;
not even the existence of a bucket shows to a stranger), finds the operation, authorizes its sender
and calls its handler.

Promises: every request gets an answer. A client's mistake is an S3Error, a refusal of storage
a StoreError; anything else is our bug, is logged with its traceback and answered with 500.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping

from octad.client.s3.access_lists import ANONYMOUS
from octad.client.s3.errors import S3Error
from octad.coordinator.schema.bucket_settings import BucketSettings, CorsRule
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.s3.answering.dispatch import HANDLERS
from octad.storage_node.s3.handlers.authentication import SecretOf, authenticate
from octad.storage_node.s3.handlers.authorization import authorize
from octad.storage_node.s3.handlers.forms.form_upload import FormReader
from octad.storage_node.s3.handlers.request import Request
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.handlers.unknown_headers import UnknownHeaders
from octad.storage_node.s3.protocol.answers import Answer, error_answer
from octad.storage_node.s3.protocol.asked_lists import OwnerOf
from octad.storage_node.s3.protocol.cors import cors_lines, preflight_lines
from octad.storage_node.s3.protocol.requests.names import is_bucket_name
from octad.storage_node.s3.protocol.requests.routes import (
    route,
    with_hoisted_headers,
    without_sigv2,
)
from octad.storage_node.s3.protocol.requests.s3_operations import S3Operation
from octad.storage_node.s3.protocol.requests.targets import (
    bucket_of_host,
    parse_query,
    split_path,
    split_target,
)
from octad.storage_node.s3.protocol.store_errors import s3_error_of
from octad.storage_node.s3.protocol.strangers import browser_page, is_browser_at_root
from octad.storage_node.shards.object_store import DiskFull, ObjectStore, StoreError

_logger = logging.getLogger("octad.front_door")


class S3Handler:
    """Answers S3 requests from `store`, to those whose secret `secret_of` knows.

    Under `domains` the host may name the bucket. Buckets are made with the settings `new_buckets`.
    Owners have their ids in `cluster`; `owner_of_id` knows those that have keys.
    """

    def __init__(
        self,
        store: ObjectStore,
        secret_of: SecretOf,
        region: str,
        next_request_id: Callable[[], bytes],
        budget: BodyBudget,
        *,
        sigv2_urls: bool,
        domains: tuple[str, ...],
        scheme: str,
        new_buckets: BucketSettings,
        cluster: str,
        owner_of_id: OwnerOf,
        strict_aws: bool,
    ) -> None:
        self._store = store
        self._secret_of = secret_of
        self._region = region
        self._budget = budget
        self._sigv2_urls = sigv2_urls
        self._domains = domains
        self._scheme = scheme
        self._new_buckets = new_buckets
        self._forms = FormReader(secret_of)
        self._cluster = cluster
        self._owner_of_id = owner_of_id
        self._strict_aws = strict_aws
        self.next_request_id = next_request_id
        self.requests: Counter[tuple[str, int]] = Counter()  # By operation and status.
        self.unknown_headers = UnknownHeaders()

    async def answer(self, request: Request, request_id: bytes) -> Answer:
        """Raises only ConnectionError: the client is gone."""
        operation = "none"
        context: RequestContext | None = None
        try:
            if request.method == "OPTIONS":
                return self._counted(operation, await self._preflight(request))
            context = self._admit(request, request_id)
            operation = request.operation
            if context.operation is S3Operation.POST_OBJECT:
                try:
                    await self._forms.read(context)
                finally:
                    request.key_id = context.signature.access_key
            await authorize(context)
            answer = await HANDLERS[context.operation](context)
            if context.object_decides:
                raise S3Error("AccessDenied")  # It was not checked whether the sender may read it.
            if "origin" in request.headers:
                await self._add_cors(request, answer)
            self.requests[operation, answer.status] += 1
            return answer
        except S3Error as error:
            refusal = error
            is_stranger = context is None or context.owner == ANONYMOUS
            if is_stranger and is_browser_at_root(request.method, request.target, request.headers):
                return self._counted(operation, browser_page())
        except StoreError as error:
            upload_id = context.query.get("uploadId", "") if context is not None else ""
            key = context.key.decode() if context is not None else ""
            refusal = s3_error_of(error, upload_id, key)
            # A full disk is in the status; a line for each request would fill it further. Nor may
            # strangers, who can ask for any bucket.
            is_stranger = context is None or context.owner == ANONYMOUS
            is_told = not is_stranger and not isinstance(error, DiskFull)
            if refusal.http_status >= 500 and is_told:
                _logger.warning(
                    "%s: %s %s: %r", request_id.hex(), request.method, request.target, error
                )
        except ConnectionError:
            raise
        except Exception:
            _logger.exception("%s: %s %s failed", request_id.hex(), request.method, request.target)
            refusal = S3Error("InternalError")
        finally:
            if context is not None and context.memory_bytes:
                context.give_memory_back()
        path = request.target.partition("?")[0]
        answer = error_answer(refusal, resource=path, request_id=request_id.hex())
        if "origin" in request.headers and request.method != "OPTIONS":
            await self._add_cors(request, answer)
        return self._counted(operation, answer)

    def _counted(self, operation: str, answer: Answer) -> Answer:
        self.requests[operation, answer.status] += 1
        return answer

    async def _add_cors(self, request: Request, answer: Answer) -> None:
        """To refusals too: a page may read what its browser lets it."""
        rules = await self._cors_rules(request)
        answer.head += cors_lines(rules, request.method, request.headers)

    async def _preflight(self, request: Request) -> Answer:
        """Without credentials, which no browser sends with it; buckets without rules, and names
        without a bucket, are refused alike."""
        path = request.target.partition("?")[0]
        rules = await self._cors_rules(request)
        return Answer(200, preflight_lines(rules, path, request.headers))

    async def _cors_rules(self, request: Request) -> tuple[CorsRule, ...]:
        """The answer's headers for the bucket that the request names, if any."""
        try:
            path, _ = split_target(request.target)
            name, _ = split_path(path, self._host_bucket(request.headers))
            return (await self._store.get_bucket(name)).cors if is_bucket_name(name) else ()
        except (S3Error, StoreError):
            return ()

    def _host_bucket(self, headers: Mapping[str, str]) -> str:
        return bucket_of_host(headers.get("host", ""), self._domains) if self._domains else ""

    def _admit(self, request: Request, request_id: bytes) -> RequestContext:
        """From what was sent to a request of a known sender with one operation; raises S3Error."""
        method, headers = request.method, request.headers
        path, raw_query = split_target(request.target)
        host_bucket = self._host_bucket(headers)
        now_s = time.time()
        signature, owner = authenticate(
            method,
            path,
            raw_query,
            headers,
            now_s=now_s,
            region=self._region,
            secret_of=self._secret_of,
            sigv2_urls=self._sigv2_urls,
            host_bucket=host_bucket,
        )
        request.key_id = signature.access_key
        try:
            query = parse_query(raw_query)
            if signature.sigv2:
                query = without_sigv2(query)
            query, headers = with_hoisted_headers(query, headers)
            bucket, key = split_path(path, host_bucket)
            operation, unknown = route(method, bucket, key, query, headers)
        except S3Error:
            if owner == ANONYMOUS:
                raise S3Error("AccessDenied") from None  # Content served here is not a stranger's.
            raise
        request.operation, request.bucket = operation, bucket
        if unknown and owner != ANONYMOUS:
            self.unknown_headers.add(unknown)
        return RequestContext(
            body=request.body,
            budget=self._budget,
            store=self._store,
            region=self._region,
            request_id=request_id,
            next_request_id=self.next_request_id,
            now_ms=int(now_s * 1000),
            owner=owner,
            cluster=self._cluster,
            owner_of_id=self._owner_of_id,
            signature=signature,
            operation=operation,
            scheme=self._scheme,
            path=path,
            headers=headers,
            query=query,
            bucket_name=bucket,
            key=key,
            body_awaited=request.expects_continue,
            new_buckets=self._new_buckets,
            strict_aws=self._strict_aws,
        )
