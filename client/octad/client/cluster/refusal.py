"""A coordinator's answer to a request that it refuses: one JSON object."""

from __future__ import annotations

import msgspec


class RefusalMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Any refusal or error. `cluster` is the one that answered."""

    code: str
    reason: str
    cluster: str
    passes: bool = False  # Waiting may help.
    instances: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET  # Lost by a session.
    # Where signing again will do (`internal_auth.SignAgain`): at which time, and for whom.
    now_ms: int | None = None
    audience: str | None = None
