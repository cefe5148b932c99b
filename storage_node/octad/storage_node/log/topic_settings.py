"""The settings of a topic, which its record keeps by Kafka's names: values in, values out.

What is not set has its default: times are the producers', and records are kept for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from octad.storage_node.shards.object_store import Bucket, Topic

TIMESTAMPS, RETENTION_MS, RETENTION_BYTES = (
    *("message.timestamp.type", "retention.ms", "retention.bytes"),
)
CREATE_TIME, APPEND_TIME = "CreateTime", "LogAppendTime"
FOR_EVER: Final = -1
_NUMBER_MAX: Final = (1 << 63) - 1


class BadSetting(ValueError):
    """There is no such setting, or it has no such value."""


class TopicSettings(msgspec.Struct, frozen=True):
    """As they are in force. Both kinds of retention are of each partition by itself."""

    append_time: bool = False  # Else times are as the producers say.
    retention_ms: int = FOR_EVER
    retention_bytes: int = FOR_EVER


def settings_of(topic: Bucket | None) -> TopicSettings:
    """The defaults where the topic is not known here."""
    if not isinstance(topic, Topic) or not topic.config:
        return _DEFAULTS
    config = topic.config
    return TopicSettings(
        config.get(TIMESTAMPS) == APPEND_TIME,
        int(config.get(RETENTION_MS, FOR_EVER)),
        int(config.get(RETENTION_BYTES, FOR_EVER)),
    )


def changed_config(config: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """With these values, and without those that are None. Raises BadSetting."""
    changed = dict(config)
    for name, value in changes.items():
        if name not in (TIMESTAMPS, RETENTION_MS, RETENTION_BYTES):
            known = ", ".join((TIMESTAMPS, RETENTION_MS, RETENTION_BYTES))
            raise BadSetting(f"there is no setting {name}: there are {known}")
        changed.pop(name, None)
        if value is not None:
            _check(name, value)
            changed[name] = value
    return changed


def _check(name: str, value: str) -> None:
    if name == TIMESTAMPS:
        if value not in (CREATE_TIME, APPEND_TIME):
            raise BadSetting(f"{name} is {CREATE_TIME} or {APPEND_TIME}, and not {value}")
    elif value != str(FOR_EVER):
        is_number = value.isascii() and value.isdecimal() and len(value) < 20
        if not is_number or not 1 <= int(value) <= _NUMBER_MAX:
            raise BadSetting(f"{name} is a number above 0, or {FOR_EVER} for ever, and not {value}")


_DEFAULTS: Final = TopicSettings()
