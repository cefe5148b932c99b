"""Settings that services share: keys, values and the messages about them.

Small and few, so that every coordinator has all of them in memory: this is no database. A key's
revision is that of the configuration store at which it last changed; 0: there is no such key.
Examples: `docs/reference/coordinator-http.md`.
"""

from __future__ import annotations

import re

import msgspec

from octad.sharding.limits import KIB, MIB

KV_PATH = "/cluster/v1/kv"
KV_KEY_MAX = 256  # Characters.
KV_VALUE_BYTES_MAX = 64 * KIB
KV_KEYS_MAX = 10_000
KV_BYTES_MAX = 64 * MIB  # Of all keys and values.

_KEY = re.compile(r"[A-Za-z0-9._:-]+(?:/[A-Za-z0-9._:-]+)*")
_PREFIX = re.compile(r"[A-Za-z0-9._:/-]*")


class BadKey(ValueError):
    """No key can be called so, or no value be so long; the message says what is allowed."""


class KvEntry(msgspec.Struct, frozen=True):
    """A key as of `as_of`. `value` is None, and `revision` 0, where there is none."""

    key: str
    value: bytes | None
    revision: int
    as_of: int
    age_s: float = 0.0  # How long ago the configuration store confirmed this.


class KvKey(msgspec.Struct, frozen=True):
    """A key without its value."""

    key: str
    revision: int
    bytes: int


class KvKeys(msgspec.Struct, frozen=True):
    """All keys under a prefix, in order, as of `as_of`."""

    keys: tuple[KvKey, ...]
    as_of: int
    age_s: float


class KvAnswer(msgspec.Struct, frozen=True):
    """A change was made at this revision; 0: there was nothing to delete."""

    revision: int


def check_key(key: str) -> None:
    """Raises BadKey."""
    if len(key) > KV_KEY_MAX or not _KEY.fullmatch(key):
        raise BadKey(
            f"key {key[:80]!r}: up to {KV_KEY_MAX} letters, digits, dots, dashes, underscores and"
            " colons, in parts with a slash between them"
        )


def check_prefix(prefix: str) -> None:
    """Raises BadKey."""
    if len(prefix) > KV_KEY_MAX or not _PREFIX.fullmatch(prefix):
        raise BadKey(f"prefix {prefix[:80]!r}: the beginning of a key")


def check_value(key: str, value: bytes) -> None:
    """Raises BadKey."""
    if len(value) > KV_VALUE_BYTES_MAX:
        raise BadKey(f"the value of {key} has {len(value)} bytes: at most {KV_VALUE_BYTES_MAX}")
