"""How the coordinator's handlers answer: JSON, its age, and parameters that make no sense."""

from __future__ import annotations

import math

import msgspec
from aiohttp import web

from octad.coordinator.store.interface import Revision

WATCH_WAIT_S_MAX = 60.0  # A long poll; proxies often cut idle connections after this.

_REVISION_DIGITS_MAX = 18  # Fits a signed 64-bit number, as stores use.
_TRUE, _FALSE = ("true", "", "1"), ("false", "0")
AGE_HEADER = "Age"  # Seconds since the origin (here: the store) confirmed the answer.


class BadParameter(ValueError):
    """A bad parameter of the query or path; the message says which and why."""


def json_answer(document: object, *, status: int = 200, age_s: float | None = None) -> web.Response:
    """`document` as JSON."""
    return json_bytes(msgspec.json.encode(document), status=status, age_s=age_s)


def json_bytes(
    body: bytes,
    *,
    status: int = 200,
    age_s: float | None = None,
    headers: dict[str, str] | None = None,
) -> web.Response:
    """Bytes that are JSON already."""
    sent = dict(headers or {})
    if age_s is not None:
        sent[AGE_HEADER] = str(int(age_s))
    return web.Response(body=body, status=status, content_type="application/json", headers=sent)


def wait_of(request: web.Request) -> float:
    """The query's `wait` in seconds, 0 without; raises BadParameter."""
    text = request.query.get("wait")
    if text is None:
        return 0.0
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = math.nan
    if not 0 <= wait_s < math.inf:
        raise BadParameter(f"wait={text[:80]}: seconds from 0 to {WATCH_WAIT_S_MAX:.0f}")
    return min(wait_s, WATCH_WAIT_S_MAX)


def min_revision_of(request: web.Request) -> Revision | None:
    """The query's `min_revision`, None without; raises BadParameter."""
    return revision_of(request, "min_revision")


def revision_of(request: web.Request, name: str) -> Revision | None:
    """A revision of the query, None without; raises BadParameter."""
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= _REVISION_DIGITS_MAX):
        raise BadParameter(f"{name}={text[:80]}: a revision, as a document or answer has it")
    return Revision(int(text))


def flag_of(request: web.Request, name: str) -> bool:
    """A boolean of the query, false without; its name alone means true. Raises BadParameter."""
    text = request.query.get(name, "false").lower()
    if text not in _TRUE and text not in _FALSE:
        raise BadParameter(f"{name}={text[:80]}: true or false")
    return text in _TRUE
