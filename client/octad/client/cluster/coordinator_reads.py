"""One read from a coordinator, for verbs that ask once and end. Standard library only: it is quick.

Proxies are not asked: a cluster is on one's own network.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TypeVar

from octad.client.cluster.etcd_instead import IS_ETCD, VERSION_PATH, is_etcd
from octad.client.runtime.address import DEFAULT_COORDINATOR_PORT
from octad.client.runtime.command import CommandError

_TIMEOUT_S = 5.0

Document = TypeVar("Document")


def read_json(url: str, path: str) -> bytes:
    """The answer's body; raises CommandError."""
    import http.client

    try:
        status, body = _get(url, path)
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(
            f"no coordinator answers at {url} ({error or type(error).__name__})",
            "start one (octad dev, octad coordinator), or name it with --coordinator URL",
        ) from error
    if status != http.client.OK:
        raise _refused(url, status, body)
    return body


def _refused(url: str, status: int, body: bytes) -> CommandError:
    """A coordinator says why."""
    import json

    try:
        reason, passes = json.loads(body)["reason"], json.loads(body)["passes"]
    except (ValueError, KeyError, TypeError):
        text = body[:200].decode(errors="replace").strip()
        return not_a_coordinator(url, f"status {status}: {text}")
    fix = "wait for it, or ask another one: --coordinator URL" if passes else "correct it"
    return CommandError(f"the coordinator at {url} refuses: {reason}", fix)


def host_of(url: str) -> tuple[str, int]:
    """Host and port of a coordinator's URL; raises CommandError."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or DEFAULT_COORDINATOR_PORT
    except ValueError:
        host = None
    if host is None or parts.scheme != "http":
        raise CommandError(f"{url!r} is not http://host:port", "correct --coordinator", 2)
    return host, port


def _get(url: str, path: str) -> tuple[int, bytes]:
    """Status and body; raises CommandError, OSError, HTTPException."""
    import http.client

    host, port = host_of(url)
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def read_document(url: str, path: str, kind: type[Document]) -> Document:
    """The answer as a `kind`; raises CommandError."""
    import msgspec

    try:
        return msgspec.json.decode(read_json(url, path), type=kind)
    except msgspec.DecodeError as error:
        raise not_a_coordinator(url, str(error)) from error


def not_a_coordinator(url: str, why: str) -> CommandError:
    """For an answer that makes no sense: asks whose it may be."""
    import http.client

    with suppress(OSError, http.client.HTTPException, CommandError):
        if is_etcd(_get(url, VERSION_PATH)[1]):
            return CommandError(
                f"{url} {IS_ETCD}",
                "name a coordinator with --coordinator (its port is 9400 unless told otherwise)",
            )
    return CommandError(
        f"{url} did not answer like a coordinator ({why})", "check the URL, and its log"
    )
