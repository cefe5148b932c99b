"""One read from a coordinator, for verbs that ask once and end. Standard library only: it is quick.

Proxies are not asked: a cluster is on one's own network.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from octad.client.cluster.etcd_instead import IS_ETCD, VERSION_PATH, is_etcd
from octad.client.runtime.address import DEFAULT_COORDINATOR_PORT
from octad.client.runtime.command import CommandError
from octad.client.runtime.wrong_protocol import CODE, PLAIN_IS_SPOKEN

if TYPE_CHECKING:
    import http.client

_TIMEOUT_S = 5.0

Document = TypeVar("Document")


class Origin(NamedTuple):
    """A coordinator's, as its URL names it."""

    host: str
    port: int
    tls: bool

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """Not connected yet. Raises CommandError for an authority's file that cannot be used."""
        import http.client

        if not self.tls:
            return http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        from octad.client.cluster.coordinator_tls import AUTHORITY_VARIABLE, context_for

        try:
            context = context_for([self.url], None)
        except ValueError as error:
            raise CommandError(str(error), f"correct {AUTHORITY_VARIABLE}") from error
        return http.client.HTTPSConnection(self.host, self.port, timeout=timeout_s, context=context)


def read_json(url: str, path: str) -> bytes:
    """The answer's body; raises CommandError."""
    import http.client

    try:
        status, body = _get(url, path)
    except (OSError, http.client.HTTPException) as error:
        raise no_answer(f"no coordinator answers at {url}", [why_not(error)]) from error
    if status != http.client.OK:
        raise _refused(url, status, body)
    return body


def why_not(error: Exception) -> str:
    """What a failure to be answered means."""
    from octad.client.cluster.coordinator_tls import why_no_answer

    return why_no_answer(error)


def no_answer(what: str, reasons: list[str]) -> CommandError:
    """For those that were asked, each with its reason."""
    fix = "start one (octad dev, octad coordinator), or name it with --coordinator URL"
    if all(reason.endswith(PLAIN_IS_SPOKEN) for reason in reasons):
        fix = "name it with http:// in --coordinator"
    return CommandError(f"{what} ({'; '.join(reasons)})", fix)


def _refused(url: str, status: int, body: bytes) -> CommandError:
    """A coordinator says why."""
    import json

    try:
        reason, passes = json.loads(body)["reason"], json.loads(body)["passes"]
    except (ValueError, KeyError, TypeError):
        text = body[:200].decode(errors="replace").strip()
        return not_a_coordinator(url, f"status {status}: {text}", body)
    if json.loads(body).get("code") == CODE:
        return _speaks_tls(url)
    fix = "wait for it, or ask another one: --coordinator URL" if passes else "correct it"
    return CommandError(f"the coordinator at {url} refuses: {reason}", fix)


def _speaks_tls(url: str) -> CommandError:
    return CommandError(
        f"{url} speaks TLS, and was asked without",
        f"name it as https://{url.partition('://')[2]} in --coordinator",
    )


def origin_of(url: str) -> Origin:
    """Of a coordinator's URL; raises CommandError."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or DEFAULT_COORDINATOR_PORT
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("http", "https"):
        raise CommandError(
            f"{url!r} is neither http://host:port nor https://host:port", "correct --coordinator", 2
        )
    return Origin(host, port, parts.scheme == "https")


def _get(url: str, path: str) -> tuple[int, bytes]:
    """Status and body; raises CommandError, OSError, HTTPException."""
    connection = origin_of(url).connection(_TIMEOUT_S)
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


def not_a_coordinator(url: str, why: str, answer: bytes = b"") -> CommandError:
    """For an answer that makes no sense: asks whose it may be."""
    import http.client

    from octad.client.cluster.coordinator_tls import says_tls_is_spoken

    if says_tls_is_spoken(answer):
        return _speaks_tls(url)

    with suppress(OSError, http.client.HTTPException, CommandError):
        if is_etcd(_get(url, VERSION_PATH)[1]):
            return CommandError(
                f"{url} {IS_ETCD}",
                "name a coordinator with --coordinator (its port is 9400 unless told otherwise)",
            )
    return CommandError(
        f"{url} did not answer like a coordinator ({why})", "check the URL, and its log"
    )
