"""A front door that serves a dictionary on a free port of 127.0.0.1, from a thread of its own.

Tests drive it as users do, with boto3, or with single requests where they must be malformed.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from xml.etree import ElementTree

import boto3
from botocore.config import Config
from tests.unit.s3.memory_store import MemoryStore

from octad.client.s3.owners import canonical_id
from octad.client.s3.sigv4 import UNSIGNED_PAYLOAD, Credentials, sign_request
from octad.coordinator.tls.certificate import Certificate
from octad.sharding.limits import CLIENT_CONNECTIONS_MAX
from octad.storage_node.cli.node_command import BODY_BUDGET_BYTES
from octad.storage_node.dev.dev_certificate import issue
from octad.storage_node.memory.body_budget import BodyBudget
from octad.storage_node.s3.http.server import FrontDoor

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

Result = TypeVar("Result")

REGION = "eu-test-1"
CLUSTER = "1a2b3c4d"
ALICE = Credentials("ALICEACCESSKEY", "alice's secret")
BOB = Credentials("BOBACCESSKEY", "bob's secret")
CAROL = Credentials("CAROLACCESSKEY", "carol's secret")
_OWNERS = {
    ALICE.access_key: (ALICE.secret_key, "alice"),
    BOB.access_key: (BOB.secret_key, "bob"),
    CAROL.access_key: (CAROL.secret_key, "carol"),
}


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer as it came."""

    status: int
    headers: dict[str, str]  # Lower-case names.
    body: bytes

    @property
    def code(self) -> str:
        """The code of an error document."""
        return self.element("Code")

    def element(self, name: str) -> str:
        """The text of an element of an error document."""
        return ElementTree.fromstring(self.body).findtext(name, "")


@dataclass(frozen=True)
class TlsFiles:
    """Of a new certificate, in `directory`, for 127.0.0.1 and `domains`."""

    directory: Path
    domains: tuple[str, ...] = ("localhost",)

    def __post_init__(self) -> None:
        self.renew()

    @property
    def pair(self) -> Path:
        return self.directory / "pair.pem"

    @property
    def authority(self) -> Path:
        return self.directory / "ca.pem"

    @property
    def trusting(self) -> ssl.SSLContext:
        """What a client needs; it does not forgive what OpenSSL can find fault with."""
        context = ssl.create_default_context(cafile=self.authority)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    def renew(self) -> None:
        issued = issue(self.domains, datetime.now(UTC))
        self.pair.write_bytes(issued.pair)
        self.authority.write_bytes(issued.authority)


class FrontDoorSite:
    """The front door, its store, and clients of it."""

    def __init__(
        self,
        region: str = REGION,
        *,
        all_through_aiohttp: bool = False,
        connections_max: int = CLIENT_CONNECTIONS_MAX,
        sigv2_urls: bool = True,
        domains: tuple[str, ...] = (),
        tls: TlsFiles | None = None,
        strict_aws: bool = False,
    ) -> None:
        self.region = region
        self.tls = tls
        self.certificate = None if tls is None else Certificate(tls.pair, tls.pair)
        self.all_through_aiohttp = all_through_aiohttp
        self.store = MemoryStore()
        numbers = itertools.count(1)
        self.budget = BodyBudget(BODY_BUDGET_BYTES)
        self.door = FrontDoor(
            self.store,
            _OWNERS.get,
            region,
            lambda: next(numbers).to_bytes(16, "big"),
            self.budget,
            cluster=CLUSTER,
            owner_of_id={canonical_id(CLUSTER, name): name for _, name in _OWNERS.values()}.get,
            all_through_aiohttp=all_through_aiohttp,
            connections_max=connections_max,
            sigv2_urls=sigv2_urls,
            domains=domains,
            certificate=self.certificate,
            strict_aws=strict_aws,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="front door")
        self._clients: list[S3Client] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self.door.start("127.0.0.1", 0))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for client in self._clients:
            client.close()
        self.run(self.door.stop(grace_s=2))
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self.close_loop()

    def close_loop(self) -> None:
        """The last step, also where the loop never ran."""
        self._loop.close()

    def begin(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Start `work` in the front door's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Wait for `work` in the front door's loop."""
        return self.begin(work).result(30)

    def keys(self, bucket: str) -> list[bytes]:
        """The keys that `bucket` holds."""
        bucket_id = self.store.buckets[bucket].id
        return sorted(key for found, key in self.store.objects if found == bucket_id)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.door.port}"

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://{self.host}"

    def connect(self) -> socket.socket:
        """Without TLS, or with it when its handshake is over."""
        plain = socket.create_connection(("127.0.0.1", self.door.port), timeout=10)
        if self.tls is None:
            return plain
        return self.tls.trusting.wrap_socket(plain, server_hostname="127.0.0.1")

    def client(
        self,
        credentials: Credentials = ALICE,
        region: str = "",
        style: Literal["path", "virtual"] = "path",
        host: str = "",
        **config: Any,
    ) -> S3Client:
        """A boto3 client that never tries twice."""
        client = boto3.client(
            "s3",
            endpoint_url=self.url.replace(self.host, host or self.host),
            verify=None if self.tls is None else str(self.tls.authority),
            region_name=region or self.region,
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            config=Config(retries={"max_attempts": 0}, s3={"addressing_style": style}, **config),
        )
        self._clients.append(client)
        return client

    def request(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        content_sha256: str = UNSIGNED_PAYLOAD,
        credentials: Credentials | None = ALICE,
        clock_offset_s: float = 0,
        unsigned_headers: Mapping[str, str] | None = None,
        drop: tuple[str, ...] = (),
    ) -> RawAnswer:
        """One signed request without the headers `drop`; `unsigned_headers` come after signing."""
        sent = {"host": self.host, "content-length": str(len(body)), **(headers or {})}
        sent = {name: value for name, value in sent.items() if name not in drop}
        if credentials is not None:
            added, _ = sign_request(
                method=method,
                path=path,
                query=query,
                headers=sent,
                credentials=credentials,
                region=self.region,
                now=time.time() + clock_offset_s,
                content_sha256=content_sha256,
            )
            sent |= added
        sent |= unsigned_headers or {}
        return self.raw(method, f"{path}?{query}" if query else path, sent, body)

    def raw(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> RawAnswer:
        """One request, exactly as given."""
        connection = http.client.HTTPConnection(self.host, timeout=10)
        connection.sock = self.connect()
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return RawAnswer(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read(),
            )
        finally:
            connection.close()
