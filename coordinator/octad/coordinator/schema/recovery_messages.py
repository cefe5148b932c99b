"""Messages over HTTP about recovering shards whose full members are gone for good.

`POST /cluster/v1/shards/recover` takes a `RecoverRequest` and answers a `RecoverAnswer`. What it
means and costs: `docs/how-to/recover-a-shard.md`.
"""

from __future__ import annotations

import msgspec

RECOVER_PATH = "/cluster/v1/shards/recover"


class RecoverRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`shards` by name; none: all that need it. A dry run changes nothing."""

    shards: tuple[str, ...] = ()
    dry_run: bool = True


class RecoveredShard(msgspec.Struct, frozen=True):
    """`node` becomes primary: it has all entries up to seq `upto`; newer ones are lost."""

    name: str
    node: str
    upto: int
    gone: tuple[str, ...]  # Members with all of it, who are not there.
    given_up: tuple[str, ...]  # Nodes whose copies of the shard are void from now on.


class NotRecovered(msgspec.Struct, frozen=True):
    """A shard that was not recovered, and why."""

    name: str
    reason: str


class RecoverAnswer(msgspec.Struct, frozen=True):
    """The recovered shards, or those that a dry run would recover."""

    dry_run: bool
    recovered: tuple[RecoveredShard, ...]
    refused: tuple[NotRecovered, ...]
