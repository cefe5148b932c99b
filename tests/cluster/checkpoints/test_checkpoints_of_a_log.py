"""A job that reads and writes topics: fenced at them, and its records kept for a restore."""

from __future__ import annotations

from contextlib import closing
from uuid import uuid4

import pytest
from tests.cluster.log.test_topics import clients_of
from tests.harness.cluster_process import DevCluster

from octad import Checkpoints, Client, Refused
from octad.client.calls.caller import Caller
from octad.client.calls.settings import settings_of
from octad.client.http.blocking import BlockingRuntime, drive
from octad.client.log.log_documents import RecordDocument, TopicRequest
from octad.client.log.topics_client import TopicsClient

pytestmark = pytest.mark.cluster


def test_an_older_process_appends_nothing_more_and_what_a_restore_reads_is_not_trimmed(
    cluster: DevCluster,
) -> None:
    name = f"state-{uuid4().hex[:12]}"
    keys = cluster.access_key, cluster.secret_key
    log = ",".join(f"http://{each.address}" for each in clients_of(cluster))
    settings = settings_of(
        log, *keys, coordinator=None, region=None, authority_file=None, deadline_s=60, hedge=False
    )
    caller = Caller(settings, BlockingRuntime())
    topics = TopicsClient(caller)
    drive(topics.create(name, TopicRequest(1)))
    records = [RecordDocument(value="1"), RecordDocument(value="2")]
    with (
        closing(caller),
        Client(cluster.endpoint(), *keys) as client,
        Checkpoints(f"s3://{name}/p", name, client=client, log=log) as checkpoints,
    ):
        client.create_bucket(name)
        old = checkpoints.begin([(name, 0)], keep=1)
        appending = drive(topics.producer(name, name, old.epoch))
        drive(appending.append(0, records))
        old.commit({(name, 0): 1})
        new = checkpoints.begin([(name, 0)], keep=1)
        with pytest.raises(Refused):
            drive(appending.append(0, records))
        drive(drive(topics.producer(name, name, new.epoch)).append(0, records))
        with pytest.raises(Refused, match="pin"):
            drive(topics.trim(name, 0, 2))
        new.commit({(name, 0): 3})
        drive(topics.trim(name, 0, 3))
        abandoned = checkpoints.begin()
        drive(checkpoints.place.log.pin(name, f"9.{abandoned.epoch}-0", name, 0, 3))  # type: ignore[union-attr]
        checkpoints.begin()
        assert [pin.checkpoint for pin in checkpoints.collect().pins] == ["9.3-0"]
        assert len(drive(topics.pins(name, 0)).pins) == 1
