"""Listings of every kind, page by page: each page is a read of every key that it covers.

What is rolled up under a delimiter tells only that a key is there; what is not, that none is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.simulation.s3.clients import BUCKET, Clients
from tests.simulation.s3.requests import Broken, Call, Page, page_in

KINDS: Final = ("v1", "v2", "versions")
_ALL_QUERIES: Final = {"v1": {}, "v2": {"list-type": "2"}, "versions": {"versions": ""}}
_PREFIXES: Final = ("", "", "", "a/", "b", "nothing")
_PAGES_MAX: Final = 50


async def list_keys(clients: Clients) -> None:
    """All pages of one listing."""
    random = clients.random
    kind, prefix = random.choice(KINDS), random.choice(_PREFIXES)
    delimiter = random.choice(("", "", "/"))
    query = {**_ALL_QUERIES[kind], "prefix": prefix, "encoding-type": "url"}
    query["max-keys"] = str(random.choice((1, 2, 3, 1000)))
    if delimiter:
        query["delimiter"] = delimiter
    after = ""
    following: Mapping[str, str] = {}
    for _ in range(_PAGES_MAX):
        called = clients.now()
        reply = await clients.ask(Call("GET", BUCKET, query={**query, **following}))
        page = page_in(reply, kind)
        _check_form(page, prefix, delimiter, after, int(query["max-keys"]))
        upto = max(page.names) if page.following else None
        _read(clients, page, prefix, delimiter, (after, upto), called)
        if upto is None:
            clients.counts["listed"] += 1
            return
        after, following = upto, page.following
    raise Broken(f"a listing of {query} does not end")


def _check_form(page: Page, prefix: str, delimiter: str, after: str, max_keys: int) -> None:
    names = sorted(page.names, key=str.encode)
    contents, prefixes = list(page.etags), list(page.prefixes)
    in_order = contents == sorted(contents, key=str.encode) and prefixes == sorted(prefixes)
    within = all(name.startswith(prefix) and name > after for name in names)
    rolled = all(delimiter and name.endswith(delimiter) for name in prefixes)
    apart = all(not delimiter or delimiter not in name[len(prefix) :] for name in contents)
    full = not page.following or len(names) == max_keys
    once = len(set(names)) == len(names) <= max_keys
    if not (in_order and within and rolled and apart and full and once):
        raise Broken(f"a page of {prefix!r} by {delimiter!r} after {after!r}: {page}")


def _read(
    clients: Clients,
    page: Page,
    prefix: str,
    delimiter: str,
    scope: tuple[str, str | None],
    called: float,
) -> None:
    keys, now = clients.keys, clients.now()
    after, upto = scope
    for key in (*keys.names, *keys.logs):
        rolled_up = _rolled_up(key, prefix, delimiter)
        name = rolled_up or key
        if not key.startswith(prefix) or name <= after or (upto is not None and name > upto):
            continue
        etag = page.etags.get(key)
        if rolled_up in page.prefixes:
            continue
        if etag is None:
            keys.read(key, called, now, None)
        elif key in keys.logs:
            if etag in clients.logs_seen:
                keys.read(key, called, now, clients.logs_seen[etag])
        elif keys.is_known(etag):
            keys.read(key, called, now, etag)
        else:
            raise Broken(f"{key} is listed with {etag}, which no one has written")
    unknown = set(page.etags) - {*keys.names, *keys.logs}
    if unknown:
        raise Broken(f"keys are listed that no one has written: {unknown}")


def _rolled_up(key: str, prefix: str, delimiter: str) -> str | None:
    at = key.find(delimiter, len(prefix)) if delimiter and key.startswith(prefix) else -1
    return None if at < 0 else key[: at + len(delimiter)]
