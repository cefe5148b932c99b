"""From a request to its answer: the one place where both ways into the node meet.

`S3Handler.answer` authenticates a request before anything else of it is looked at (default deny;
not even the existence of a bucket shows to a stranger), finds the operation and calls its handler.

Promises: every request gets an answer. What a client gets wrong is an S3Error, what storage refuses
a StoreError; anything else is our bug, is logged with its traceback and answered with 500.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from octad.client.s3.errors import S3Error
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.s3.handlers.authentication import SecretOf, authenticate
from octad.storage_node.s3.handlers.dispatch import HANDLERS
from octad.storage_node.s3.handlers.request import Request
from octad.storage_node.s3.handlers.request_context import RequestContext
from octad.storage_node.s3.handlers.unknown_headers import UnknownHeaders
from octad.storage_node.s3.protocol.answers import Answer, error_answer
from octad.storage_node.s3.protocol.requests.routes import (
    route,
    with_hoisted_headers,
    without_sigv2,
)
from octad.storage_node.s3.protocol.requests.targets import (
    bucket_of_host,
    parse_query,
    split_path,
    split_target,
)
from octad.storage_node.s3.protocol.store_errors import s3_error_of
from octad.storage_node.s3.protocol.strangers import word_to_stranger
from octad.storage_node.shards.object_store import DiskFull, ObjectStore, StoreError

_logger = logging.getLogger("octad.front_door")


class S3Handler:
    """Answers S3 requests from `store`, to those whose secret `secret_of` knows.

    Under `domains` the host may name the bucket.
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
    ) -> None:
        self._store = store
        self._secret_of = secret_of
        self._region = region
        self._budget = budget
        self._sigv2_urls = sigv2_urls
        self._domains = domains
        self._scheme = scheme
        self.next_request_id = next_request_id
        self.requests: Counter[tuple[str, int]] = Counter()  # By operation and status.
        self.unknown_headers = UnknownHeaders()

    async def answer(self, request: Request, request_id: bytes) -> Answer:
        """Raises only ConnectionError: the client is gone."""
        context: RequestContext | None = None
        try:
            context = self._admit(request, request_id)
            answer = await HANDLERS[context.operation](context)
            self.requests[request.operation, answer.status] += 1
            return answer
        except S3Error as error:
            refusal = error
            if context is None:
                word = word_to_stranger(request.method, request.target, request.headers)
                if isinstance(word, Answer):
                    self.requests[request.operation, word.status] += 1
                    return word
                refusal = word or error
        except StoreError as error:
            upload_id = context.query.get("uploadId", "") if context is not None else ""
            refusal = s3_error_of(error, upload_id)
            # A full disk is in the status; a line for each request would fill it further.
            if refusal.http_status >= 500 and not isinstance(error, DiskFull):
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
        self.requests[request.operation, refusal.http_status] += 1
        path = request.target.partition("?")[0]
        return error_answer(refusal, resource=path, request_id=request_id.hex())

    def _admit(self, request: Request, request_id: bytes) -> RequestContext:
        """From what was sent to an authenticated request with one operation; raises S3Error."""
        method, headers = request.method, request.headers
        path, raw_query = split_target(request.target)
        domains = self._domains
        host_bucket = bucket_of_host(headers.get("host", ""), domains) if domains else ""
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
        query = parse_query(raw_query)
        if signature.sigv2:
            query = without_sigv2(query)
        query, headers = with_hoisted_headers(query, headers)
        bucket, key = split_path(path, host_bucket)
        operation, unknown = route(method, bucket, key, query, headers)
        request.operation, request.bucket = operation.value, bucket
        if unknown:
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
            signature=signature,
            operation=operation,
            scheme=self._scheme,
            path=path,
            headers=headers,
            query=query,
            bucket_name=bucket,
            key=key,
            body_awaited=request.expects_continue,
        )
