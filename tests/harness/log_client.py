"""A client of the log's HTTP that is nobody's SDK: signed requests, one connection each."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
from typing import Any, NamedTuple
from urllib.parse import urlencode

from octad.client.s3.sigv4 import Credentials, sign_request

JSON = "application/json"
BATCHES = "application/vnd.octad.record-batches"


class Answered(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class LogClient:
    """Of one node's log, at host:port."""

    def __init__(self, address: str, access_key: str, secret_key: str) -> None:
        self.address = address
        self._credentials = Credentials(access_key, secret_key)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        query: dict[str, str] | None = None,
        kind: str = JSON,
        accept: str = JSON,
        timeout_s: float = 60.0,
    ) -> Answered:
        """The answer, whatever it is. Raises OSError."""
        connection = http.client.HTTPConnection(self.address, timeout=timeout_s)
        try:
            response = self.begin(connection, method, path, body, query, kind, accept)
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answered(response.status, headers, response.read())
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    def begin(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes = b"",
        query: dict[str, str] | None = None,
        kind: str = JSON,
        accept: str = JSON,
    ) -> http.client.HTTPResponse:
        """Send it, and read the head of the answer."""
        asked = urlencode(sorted((query or {}).items()))
        headers = {"host": self.address}
        signed, _ = sign_request(
            method=method,
            path=path,
            query=asked,
            headers=headers,
            credentials=self._credentials,
            region="us-east-1",
            now=time.time(),
            content_sha256=hashlib.sha256(body).hexdigest(),
        )
        target = f"{path}?{asked}" if asked else path
        sent = {**headers, **signed, "content-type": kind, "accept": accept}
        connection.request(method, target, body or None, sent)
        return connection.getresponse()

    def append(self, topic: str, partition: int, document: dict[str, Any]) -> Answered:
        path = f"/v1/topics/{topic}/partitions/{partition}/records"
        return self.ask("POST", path, json.dumps(document).encode())

    def fetch(self, topic: str, partition: int, accept: str = JSON, **query: object) -> Answered:
        path = f"/v1/topics/{topic}/partitions/{partition}/records"
        asked = {name: str(value) for name, value in query.items()}
        return self.ask("GET", path, query=asked, accept=accept)
