"""The store that `octad coordinator backup|restore|rebuild` works on: an etcd, or an `octad dev`'s.

That of an `octad dev` is reached over HTTP while it runs, else its file is opened. Whoever has
opened the file is alone with it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from octad.client.cli.coordinator_option import (
    DEV_CLUSTER_FILE,
    DEV_ETCD_FIELD,
    DEV_FILE,
    DEV_STORE_FIELD,
    DEV_STORE_FILE,
)
from octad.client.cluster.join_token import JoinToken
from octad.client.runtime.command import CommandError
from octad.coordinator.store.embedded import EmbeddedStore
from octad.coordinator.store.interface import ConfigStore
from octad.coordinator.store.open_store import StoreAddress, open_store
from octad.coordinator.store.sqlite_log import (
    StoreFileDamaged,
    StoreFileInUse,
    StoreFileUnusable,
)


@dataclass(frozen=True, slots=True)
class RescueStore:
    """`alone`: no coordinator can be using it, even if it names a leader."""

    store: ConfigStore
    alone: bool


@asynccontextmanager
async def rescue_store(
    etcd: str | None, data: Path | None, token: JoinToken
) -> AsyncIterator[RescueStore]:
    """The store at these etcds, or of the `octad dev` in `data`; raises CommandError."""
    if etcd is not None:
        opened = RescueStore(_etcd(tuple(url.strip() for url in etcd.split(",")), token), False)
    else:
        assert data is not None, "one of the two is required"
        opened = await _of_dev(data, token)
    try:
        yield opened
    finally:
        await opened.store.close()


def _etcd(urls: tuple[str, ...], token: JoinToken) -> ConfigStore:
    try:
        return open_store(StoreAddress("etcd", urls), token)
    except ValueError as error:
        raise CommandError(str(error), "correct --etcd", 2) from error


async def _of_dev(data: Path, token: JoinToken) -> RescueStore:
    etcd = _read(data / DEV_CLUSTER_FILE).get(DEV_ETCD_FIELD)
    if isinstance(etcd, list) and etcd:
        return RescueStore(_etcd(tuple(map(str, etcd)), token), False)
    try:
        return RescueStore(await EmbeddedStore.open(data / DEV_STORE_FILE), True)
    except StoreFileInUse:
        url = str(_read(data / DEV_FILE).get(DEV_STORE_FIELD))
        return RescueStore(open_store(StoreAddress("http", (url,)), token), False)
    except StoreFileDamaged as error:
        raise CommandError(
            str(error), f"move {data / DEV_STORE_FILE} away to begin with an empty store"
        ) from error
    except StoreFileUnusable as error:
        raise CommandError(
            str(error), "use the octad that wrote it, or fix its permissions"
        ) from error


def _read(file: Path) -> dict[str, object]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise CommandError(f"cannot read {file}: {error}", "name an octad dev's --data") from error
    return found if isinstance(found, dict) else {}
