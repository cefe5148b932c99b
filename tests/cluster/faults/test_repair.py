"""Damage on one node is repaired from another: at once where it is read, else by the scrubber."""

from __future__ import annotations

import os
import time

import pytest
from tests.cluster.dev.test_data_directories import OnDisk, journal_of
from tests.harness.cluster_process import DevCluster, StartCluster
from tests.harness.s3_clients import s3_client

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024
BUCKET = "repaired"
BODIES = {"early": b"early " * 50, "large": os.urandom(8 * MIB), "late": b"late " * 50}
SCRUBBED_S_MAX = 20.0


def log_of(cluster: DevCluster) -> str:
    return (cluster.data / "n1.log").read_text()


def named(record: OnDisk) -> str:
    return f"{record.segment} is damaged at offset {record.offset}"


def test_damage_is_repaired_where_it_is_read_and_where_it_is_not(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster()
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=BUCKET)
        for key, content in BODIES.items():
            client.put_object(Bucket=BUCKET, Key=key, Body=content)
    cluster.stop()
    records = journal_of(cluster.data / "n1")
    early, _, late = [each for each in records if each.kind == "PUT_OBJECT"]
    piece = [each for each in records if each.kind == "PUT_PIECE"][-1]
    for record in (early, piece, late):  # The scrubber needs half a minute to the last two.
        record.flip_last_byte()
    cluster.start()
    with s3_client(cluster) as client:
        for key in ("late", "large"):
            assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == BODIES[key]
    assert f"a read met damage: {named(late)}" in log_of(cluster)
    assert f"a read met damage: {named(piece)}" in log_of(cluster)
    deadline = time.monotonic() + SCRUBBED_S_MAX
    while log_of(cluster).count("from another member") < 3:
        assert time.monotonic() < deadline, log_of(cluster)
        time.sleep(0.1)
    assert f"quarantined: {named(early)}" in log_of(cluster)
    cluster.stop()
    cluster.start()
    with s3_client(cluster) as client:
        for key, content in BODIES.items():
            assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == content
    assert log_of(cluster).count("a read met damage") == 2, (
        "what was repaired is read from its copy"
    )


def test_what_every_member_has_damaged_is_never_served(start_cluster: StartCluster) -> None:
    cluster = start_cluster()
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="late", Body=BODIES["late"])
    cluster.stop()
    for number in (1, 2, 3):
        (record,) = [
            each for each in journal_of(cluster.data / f"n{number}") if each.kind == "PUT_OBJECT"
        ]
        record.flip_last_byte()
    cluster.start()
    for node in range(3):
        with s3_client(cluster, node) as client, pytest.raises(client.exceptions.ClientError):
            client.get_object(Bucket=BUCKET, Key="late")
        log = (cluster.data / f"n{node + 1}.log").read_text()
        assert "lost: every copy of object b'late' in bucket repaired is damaged" in log
        assert "Traceback" not in log, log
