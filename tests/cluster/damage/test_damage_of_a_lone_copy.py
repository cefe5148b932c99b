"""Damage where there is one copy: what is gone gets an error, all else goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from tests.cluster.dev.test_data_directories import OBJECTS, body_of, fill, puts_of, restart
from tests.cluster.dev.test_one_copy import doctor_of_a_well_cluster
from tests.cluster.operation.test_usage import octad
from tests.harness.cluster_process import DevCluster, Refused, StartCluster
from tests.harness.s3_clients import put_status, s3_client

pytestmark = pytest.mark.cluster

BUCKET = "alone"


def read(cluster: DevCluster, number: int) -> tuple[int, bytes]:
    """The status, and the body or the sentence."""
    with s3_client(cluster) as client:
        try:
            return 200, client.get_object(Bucket=BUCKET, Key=str(number))["Body"].read()
        except ClientError as error:
            said: str = error.response["Error"]["Message"]
            return error.response["ResponseMetadata"]["HTTPStatusCode"], said.encode()


def listed(cluster: DevCluster) -> set[str]:
    with s3_client(cluster) as client:
        return {each["Key"] for each in client.list_objects_v2(Bucket=BUCKET)["Contents"]}


def test_a_damaged_record_gets_an_error_and_every_other_object_goes_on(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(nodes=1)
    fill(cluster, BUCKET)
    cluster.stop()  # So that the index shows them all, and no start reads them again.
    record = puts_of(cluster.data / "n1")[3]
    record.flip_last_byte()
    cluster.start()
    answers = {number: read(cluster, number) for number in range(OBJECTS)}
    (damaged,) = [n for n, (status, _) in answers.items() if status != 200]
    status, sentence = answers.pop(damaged)
    assert status in (500, 503)
    assert len(sentence.split()) > 3, sentence
    assert {n: body for n, (_, body) in answers.items()} == {n: body_of(n) for n in answers}
    assert listed(cluster) == {str(number) for number in range(OBJECTS)}
    with s3_client(cluster) as client:
        assert put_status(client, BUCKET, str(damaged), body_of(damaged)) == 200
    assert read(cluster, damaged) == (200, body_of(damaged))


def test_a_damaged_index_is_made_anew(start_cluster: StartCluster) -> None:
    cluster = start_cluster(nodes=1)
    fill(cluster, BUCKET)
    cluster.stop()
    (cluster.data / "n1" / "index" / "CURRENT").unlink()
    cluster.start()
    assert [read(cluster, n) for n in range(OBJECTS)] == [(200, body_of(n)) for n in range(OBJECTS)]
    assert listed(cluster) == {str(number) for number in range(OBJECTS)}
    assert doctor_of_a_well_cluster(cluster).startswith("nothing is wrong\n")
    assert "1 copy" in octad(cluster, "status")


def test_when_both_are_damaged_the_disk_is_kept_as_it_is(
    start_cluster: StartCluster, refused: Refused
) -> None:
    cluster = start_cluster(nodes=1)
    fill(cluster, BUCKET)
    cluster.stop()
    data = cluster.data / "n1"
    record = puts_of(data)[3]
    record.flip_last_byte()
    (data / "index" / "CURRENT").unlink()
    line = refused(*restart(cluster))
    assert "n1 cannot start: its index is damaged, and cannot be made anew" in line
    assert "no other node has a complete copy of 256 shards" in line
    assert "so keep this disk" in line
    assert not list(data.glob("set-aside-*"))
    record.flip_last_byte()  # "Put the file back from a copy".
    cluster.start()
    assert [read(cluster, n) for n in range(OBJECTS)] == [(200, body_of(n)) for n in range(OBJECTS)]
    assert Path(record.segment).exists()
