"""The few S3 requests that clients of a run make: signed, each tried once, with nothing in between.

An answer that is not a success raises `Refused` with its status; no answer at all raises what
aiohttp and asyncio raise (`NO_ANSWER` names them).
"""

from __future__ import annotations

import io
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from urllib.parse import urlsplit

import aiohttp

from octad.client.s3.sigv4 import Credentials, sign_request
from octad.sharding.limits import KIB
from octad.storage_node.s3.protocol.xml.documents import NAMESPACE

REGION = "us-east-1"
PIECEWISE_BYTES = 512 * KIB
NO_ANSWER = (aiohttp.ClientError, OSError, TimeoutError)
_S3 = {"s3": NAMESPACE}
_NO_CONDITION: Mapping[str, str] = MappingProxyType({})


class Refused(Exception):
    """The server's answer was an error."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code


class S3Requests:
    """Requests to one endpoint; close it at the end."""

    def __init__(self, endpoint: str, credentials: Credentials, timeout_s: float) -> None:
        self._endpoint = endpoint
        self._host = urlsplit(endpoint).netloc
        self._credentials = credentials
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=timeout_s), auto_decompress=False, trust_env=False
        )

    async def close(self) -> None:
        await self._session.close()

    async def make_bucket(self, bucket: str) -> None:
        await self._ask("PUT", f"/{bucket}")

    async def put(
        self, bucket: str, key: str, body: bytes, condition: Mapping[str, str] = _NO_CONDITION
    ) -> None:
        """`condition` is a header."""
        await self._ask("PUT", f"/{bucket}/{key}", body=body, condition=condition)

    async def get(self, bucket: str, key: str) -> bytes:
        return await self._ask("GET", f"/{bucket}/{key}")

    async def delete(self, bucket: str, key: str) -> None:
        await self._ask("DELETE", f"/{bucket}/{key}")

    async def list(self, bucket: str) -> dict[str, str]:
        """The entity tag of every key; for buckets of one page."""
        document = ElementTree.fromstring(await self._ask("GET", f"/{bucket}", "list-type=2"))
        assert document.findtext("s3:IsTruncated", "", _S3) == "false", "it has several pages"
        return {
            entry.findtext("s3:Key", "", _S3): entry.findtext("s3:ETag", "", _S3).strip('"')
            for entry in document.iterfind("s3:Contents", _S3)
        }

    async def begin_upload(self, bucket: str, key: str) -> str:
        """The upload's id."""
        answer = await self._ask("POST", f"/{bucket}/{key}", "uploads=")
        return ElementTree.fromstring(answer).findtext("s3:UploadId", "", _S3)

    async def put_part(self, bucket: str, key: str, upload: str, number: int, body: bytes) -> None:
        query = f"partNumber={number}&uploadId={upload}"
        await self._ask("PUT", f"/{bucket}/{key}", query, body)

    async def complete_upload(
        self, bucket: str, key: str, upload: str, etags: Sequence[str]
    ) -> None:
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            for number, etag in enumerate(etags, 1)
        )
        body = f'<CompleteMultipartUpload xmlns="{NAMESPACE}">{parts}</CompleteMultipartUpload>'
        answer = await self._ask("POST", f"/{bucket}/{key}", f"uploadId={upload}", body.encode())
        if b"<Error>" in answer:  # S3 may find out after it has sent the status.
            raise Refused(500, "InternalError")

    async def _ask(
        self,
        method: str,
        path: str,
        query: str = "",
        body: bytes = b"",
        condition: Mapping[str, str] = _NO_CONDITION,
    ) -> bytes:
        signed = {"host": self._host, **condition}
        added, _ = sign_request(
            method=method,
            path=path,
            query=query,
            headers=signed,
            credentials=self._credentials,
            region=REGION,
            now=time.time(),
        )
        url = f"{self._endpoint}{path}{f'?{query}' if query else ''}"
        request = self._session.request(method, url, data=_sent(body), headers={**signed, **added})
        async with request as answer:
            content = await answer.read()
            if answer.status >= 300:
                raise Refused(answer.status, _code_of(content))
            return content


def _sent(body: bytes) -> bytes | io.BytesIO:
    """Large bodies are written piece by piece, so that others get their turn."""
    return io.BytesIO(body) if len(body) > PIECEWISE_BYTES else body


def _code_of(content: bytes) -> str:
    try:
        return ElementTree.fromstring(content).findtext("Code", "")
    except ElementTree.ParseError:
        return ""
