"""Checkpoints in a real cluster: by both faces of the SDK, by plain S3, and of killed jobs."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from tests.cluster.checkpoints.job_process import REPOSITORY, JobProcess
from tests.harness.cluster_process import DevCluster

from octad import AsyncCheckpoints, AsyncClient, Checkpoints, Client

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024


@pytest.fixture
def url(cluster: DevCluster) -> str:
    name = f"state-{uuid4().hex[:12]}"
    with Client(*_reach(cluster)) as client:
        client.create_bucket(name)
    return f"s3://{name}/jobs/app"


def _reach(cluster: DevCluster) -> tuple[str, str, str]:
    return cluster.endpoint(), cluster.access_key, cluster.secret_key


def test_a_state_of_many_files_comes_back_and_only_what_changed_is_stored_again(
    cluster: DevCluster, url: str, tmp_path: Path
) -> None:
    chance = random.Random(1)
    state = tmp_path / "state"
    state.mkdir()
    (state / "large.bin").write_bytes(chance.randbytes(33 * MIB + 7))
    for number in range(40):
        (state / f"{number:06}.sst").write_bytes(chance.randbytes(number * 1000))
    with Client(*_reach(cluster)) as client, Checkpoints(url, "job", client=client) as checkpoints:
        job = checkpoints.begin()
        seen: list[int] = []
        job.put_dir(state, progress=seen.append)
        first = job.commit({("events", 0): 10}, {"step": 1})
        assert sum(seen) == first.bytes == first.added
        with (state / "large.bin").open("r+b") as file:
            file.seek(9 * MIB)
            file.write(b"changed")
        job.put_dir(state)
        second = job.commit({("events", 0): 20})
        assert second.added == 4 * MIB
        found = checkpoints.latest(offsets={("events", 0): 15})
        assert found is not None
        assert found.id == first.id
        assert checkpoints.diff(first.id, second.id).changed == ("large.bin",)
        second.restore(tmp_path / "back")
        assert _tree(tmp_path / "back") == _tree(state)
        with job.put_stream("streamed") as stream:
            stream.write(b"s" * (5 * MIB))
        assert job.commit().read("streamed", start=5 * MIB - 2) == b"ss"


async def test_the_asynchronous_face_does_the_same(
    cluster: DevCluster, url: str, tmp_path: Path
) -> None:
    async with AsyncClient(*_reach(cluster)) as client:
        checkpoints = AsyncCheckpoints(url, "job", client=client)
        job = await checkpoints.begin(keep=1)
        data = random.Random(2).randbytes(10 * MIB)
        await job.put("a/b", data)
        await job.commit(metadata={"x": [1, "zwei"]})
        async with job.put_stream("c") as stream:
            await stream.write(b"c")
        last = await job.commit()
        assert [each.id for each in await checkpoints.list()] == [last.id]
        await last.restore(tmp_path / "back")
        assert _tree(tmp_path / "back") == {"c": hashlib.sha256(b"c").hexdigest()}


def test_of_two_processes_that_both_live_only_the_newer_one_commits(
    cluster: DevCluster, url: str
) -> None:
    reach = _reach(cluster)
    with JobProcess(url, *reach) as old, JobProcess(url, *reach) as new:
        assert old.ask("begin") == "epoch 1"
        old.ask("put a 1")
        committed = old.ask("commit")
        old.ask("put a 2")
        assert new.ask("begin") == "epoch 2"
        assert new.ask("latest a") == "1"
        assert old.ask("commit") == "CheckpointFenced"
        new.ask("put a 3")
        newest = new.ask("commit")
        assert old.ask("put a 4") == "put"
        assert old.ask("commit") == "CheckpointFenced"
        assert old.ask("begin") == "epoch 3"
        assert new.ask("commit") == "CheckpointFenced"
        assert old.ask("latest a") == "3"
    with Client(*reach) as client:
        kept = Checkpoints(url, "shared", client=client).list()
    assert [each.id for each in kept] == [newest, committed]


def test_any_s3_client_can_read_a_checkpoint(cluster: DevCluster, url: str) -> None:
    with Client(*_reach(cluster)) as client:
        job = Checkpoints(url, "job", client=client).begin()
        job.put("greeting", b"hello")
        job.commit({("events", 3): 7})
        bucket = client.bucket(url.split("/")[2])
        head = json.loads(bytes(bucket.get("jobs/app/jobs/job/head")))
        assert head["offsets"] == [{"topic": "events", "partition": 3, "offset": 7}]
        manifest = json.loads(bytes(bucket.get(f"jobs/app/jobs/job/manifests/{head['id']}")))
        part = manifest["files"][0]["parts"][0]
        assert bytes(bucket.get(f"jobs/app/data/{part['data']}")) == b"hello"


def test_a_job_killed_at_any_point_comes_back_as_it_was_and_leaves_no_orphans(
    cluster: DevCluster, url: str
) -> None:
    _killed(cluster, url, 30)


@pytest.mark.long
def test_a_job_killed_500_times_comes_back_as_it_was_and_leaves_no_orphans(
    cluster: DevCluster, url: str
) -> None:
    _killed(cluster, url, 500)


def _killed(cluster: DevCluster, url: str, rounds: int) -> None:
    seed = random.randrange(1 << 30)
    program = "tests.cluster.checkpoints.killed_job"
    done = subprocess.run(
        [sys.executable, "-m", program, url, *_reach(cluster), str(rounds), str(seed)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=30 + rounds * 4,
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    report = json.loads(done.stdout)
    assert report["wrong"] == [], f"seed {seed}"
    assert report["broken"] == []
    assert report["orphans"] == report["others"] == []
    assert report["acknowledged"] > rounds / 2


def _tree(folder: Path) -> dict[str, str]:
    return {
        each.relative_to(folder).as_posix(): hashlib.sha256(each.read_bytes()).hexdigest()
        for each in folder.rglob("*")
        if each.is_file()
    }
