"""A request that tests sign, spoil and verify."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from octad.client.s3.sigv4 import UNSIGNED_PAYLOAD, Credentials, presign_query, sign_request
from octad.client.s3.sigv4_verify import Authenticated, verify_request

# The user of Amazon's published examples, and their moment.
CREDENTIALS = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
REGION = "us-east-1"
NOW = 1369353600  # 2013-05-24T00:00:00Z
HOST = "examplebucket.s3.amazonaws.com"


def secret_of(access_key: str) -> str | None:
    """The keys of a server that knows one user."""
    return CREDENTIALS.secret_key if access_key == CREDENTIALS.access_key else None


@dataclass
class Request:
    """A request as it is on the wire."""

    method: str = "GET"
    path: str = "/test.txt"
    query: str = ""
    headers: dict[str, str] = field(default_factory=lambda: {"host": HOST})

    def signed(
        self,
        *,
        content_sha256: str = UNSIGNED_PAYLOAD,
        credentials: Credentials = CREDENTIALS,
        region: str = REGION,
        now: float = NOW,
    ) -> Request:
        """This request with an `Authorization` header."""
        added, _ = sign_request(
            method=self.method,
            path=self.path,
            query=self.query,
            headers=self.headers,
            credentials=credentials,
            region=region,
            now=now,
            content_sha256=content_sha256,
        )
        return Request(self.method, self.path, self.query, {**self.headers, **added})

    def presigned(
        self,
        *,
        credentials: Credentials = CREDENTIALS,
        region: str = REGION,
        now: float = NOW,
        expires_s: int = 86_400,
    ) -> Request:
        """This request with its signature in the query."""
        query = presign_query(
            method=self.method,
            path=self.path,
            query=self.query,
            headers=self.headers,
            credentials=credentials,
            region=region,
            now=now,
            expires_s=expires_s,
        )
        return Request(self.method, self.path, query, dict(self.headers))

    def having(self, **headers: str) -> Request:
        """This request with further headers (`_` for `-`), signed or not as it was."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return Request(self.method, self.path, self.query, {**self.headers, **more})

    def without(self, name: str) -> Request:
        """This request without one header."""
        rest = {other: value for other, value in self.headers.items() if other != name}
        return Request(self.method, self.path, self.query, rest)

    def verified(self, *, now: float = NOW, region: str = REGION) -> Authenticated:
        """What a server makes of it."""
        return verify(self.method, self.path, self.query, self.headers, now=now, region=region)


def verify(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    *,
    now: float = NOW,
    region: str = REGION,
) -> Authenticated:
    """`verify_request` of a server that knows one user."""
    return verify_request(method, path, query, headers, now=now, region=region, secret_of=secret_of)
