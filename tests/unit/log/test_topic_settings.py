"""The settings of a topic, and what they say of what a log keeps."""

from __future__ import annotations

import pytest

from octad.client.log.log_documents import HoldDocument
from octad.sharding.ids import BucketId, PoolId
from octad.storage_node.log.http.log_reasons import holds_of
from octad.storage_node.log.log_messages import HeldRead, PartitionRead, Pin
from octad.storage_node.log.topic_settings import (
    BadSetting,
    TopicSettings,
    changed_config,
    settings_of,
)
from octad.storage_node.shards.object_store import Bucket, Topic

OF = "t", BucketId(1), PoolId(0), "owner", 0


def test_what_is_not_set_is_kept_for_ever_with_the_times_of_the_producers() -> None:
    assert settings_of(None) == settings_of(Bucket(*OF)) == TopicSettings(False, -1, -1)
    assert settings_of(Topic(*OF, uuid="u", partitions=1)) == TopicSettings()


def test_settings_are_changed_one_by_one_and_back_to_the_default() -> None:
    config = changed_config({}, {"retention.ms": "1000", "retention.bytes": "-1"})
    config = changed_config(config, {"message.timestamp.type": "LogAppendTime"})
    topic = Topic(*OF, uuid="u", partitions=1, config=config)
    assert settings_of(topic) == TopicSettings(True, 1000, -1)
    assert changed_config(config, dict.fromkeys(config)) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retention", "1"),
        ("retention.ms", "0"),
        ("retention.ms", "-2"),
        ("retention.ms", "1d"),
        ("retention.bytes", ""),
        ("retention.bytes", "1" * 20),
        ("retention.bytes", "9223372036854775808"),
        ("message.timestamp.type", "createtime"),
    ],
)
def test_a_setting_that_makes_no_sense_changes_nothing(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=name):
        changed_config({}, {"retention.ms": "5", name: value})


def by(read: PartitionRead, pins: list[Pin], settings: TopicSettings) -> list[str]:
    return [each.by for each in holds_of(read, HeldRead(pins, []), settings, now_ms=1000)]


def test_what_keeps_the_first_records_is_named() -> None:
    some = PartitionRead(3, 9, 600, 900)
    pins = [Pin("sums", "8", 5, 0), Pin("sums", "7", 3, 0)]
    assert by(PartitionRead(9, 9), pins, TopicSettings()) == ["nothing"]
    assert by(some, [], TopicSettings()) == ["for-ever"]
    assert by(some, pins, TopicSettings()) == ["pin", "for-ever"]
    assert by(some, [], TopicSettings(False, 100, 600)) == ["retention.ms", "retention.bytes"]
    assert by(some, [], TopicSettings(False, 99, -1)) == ["upkeep"]
    assert by(some, pins, TopicSettings(False, 5000, 599)) == ["pin", "upkeep"]
    (pin, _) = holds_of(some, HeldRead(pins, []), TopicSettings(), 1000)
    assert pin == HoldDocument("pin", "the pin 7 of sums, the lowest of 2 pins, keeps 3 and on")
