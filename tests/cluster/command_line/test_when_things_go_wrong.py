"""What users get wrong and what breaks meanwhile: one line, the right exit code, nothing lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.cluster.command_line.conftest import Octad
from tests.cluster.coordinator.tcp_link import TcpLink, tcp_link
from tests.harness.cluster_process import OCTAD, DevCluster
from tests.harness.loop_disk import loop_disk

from octad import Bucket

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024
MARK = b"here it ends..."
LARGE = os.urandom(48 * MIB) + MARK * (8 * MIB // len(MARK))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "Connection refused; check whom it asks"),
        ({"AWS_ENDPOINT_URL": "ftp://x"}, "'ftp://x' is not an endpoint's URL"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "check whose keys these are: octad config show --origin"),
        ({"AWS_SECRET_ACCESS_KEY": "x"}, "check whose keys these are: octad config show --origin"),
        ({"AWS_ACCESS_KEY_ID": ""}, "no access key is known; set AWS_ACCESS_KEY_ID"),
    ],
)
def test_a_wrong_address_or_key_is_one_line(
    octad: Octad, changed: dict[str, str], said: str
) -> None:
    ended = octad("ls", env=changed)
    assert ended.code in (1, 2)
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1


def test_tls_to_a_port_without_it_is_said_in_words(octad: Octad, cluster: DevCluster) -> None:
    secure = cluster.endpoint().replace("http:", "https:")
    ended = octad("ls", env={"AWS_ENDPOINT_URL": secure})
    assert ended.code == 1
    assert "the port does not speak TLS; use http:// for this endpoint" in ended.err


def test_a_wrong_clock_is_said_to_be_that(environment: dict[str, str]) -> None:
    script = (
        "import sys, time\n"
        "right = time.time\n"
        "time.time = lambda: right() + 3600\n"
        "from octad.client.cli.command_line import main\n"
        "sys.exit(main(['ls']))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert "set this machine's clock" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_what_is_not_there_is_exit_code_4_with_the_next_command(
    octad: Octad, bucket: Bucket, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(b"1")
    bucket.put("d/k", b"1")
    place = f"s3://{bucket.name}"
    no_bucket = "octad: there is no bucket no-such; see which there are (octad ls), or make it:"
    for words in (("ls", "s3://no-such"), ("cp", "f", "s3://no-such/k"), ("du", "s3://no-such")):
        ended = octad(*words)
        assert (ended.code, ended.err) == (4, f"{no_bucket} octad bucket create no-such\n")
    for verb in ("cat", "stat", "rm", "ls"):
        ended = octad(verb, f"{place}/d/it's")
        assert ended.code == 4
        assert ended.err == (
            f"octad: there is no object {place}/d/it's; see what there is: octad ls {place}/d\n"
        )
    folder = octad("cp", f"{place}/d", "x")
    assert folder.code == 2
    assert folder.err == f"octad: {place}/d is a folder; carry all that is in it: add -r\n"
    assert octad("cp", "nothing", place).code == 4
    whole = octad("rm", "-r", place)
    assert (whole.code, [info.key for info in bucket.list()]) == (1, ["d/k"])


@pytest.mark.root
def test_a_full_disk_is_one_line_and_leaves_no_half_file(
    octad: Octad, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put("large", os.urandom(40 * MIB))
    for number in range(30):
        bucket.put(f"small/{number:02}", os.urandom(MIB))
    with loop_disk(tmp_path / "disk", 16 * MIB):
        large = octad("cp", f"s3://{bucket.name}/large", "disk/large")
        assert large.code == 1
        assert "disk/large could not be written: No space left on device" in large.err
        assert len(large.err.splitlines()) == 1
        small = octad("cp", "-r", f"s3://{bucket.name}/small", "disk/small")
        assert small.code == 1
        assert "No space left on device" in small.err
        assert len(small.err.splitlines()) == 1
        sizes = {path.stat().st_size for path in (tmp_path / "disk").rglob("*") if path.is_file()}
        assert sizes == {MIB}


@pytest.fixture
async def link(cluster: DevCluster) -> AsyncIterator[TcpLink]:
    async with tcp_link(cluster.nodes[0].s3) as link:
        yield link


async def interrupted(
    environment: dict[str, str], link: TcpLink, folder: Path, *words: str
) -> tuple[int, str]:
    """The exit code and the error of a verb that gets Ctrl-C once nothing passes the link."""
    process = await asyncio.create_subprocess_exec(
        OCTAD,
        *words,
        cwd=folder,
        env={**environment, "AWS_ENDPOINT_URL": f"http://{link.address}"},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    await link.is_silent()
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    link.heal()
    assert process.returncode is not None
    return process.returncode, err.decode()


async def test_ctrl_c_in_a_download_leaves_no_half_file_and_the_next_one_takes_it_up(
    environment: dict[str, str], bucket: Bucket, link: TcpLink, octad: Octad, tmp_path: Path
) -> None:
    bucket.put("large", LARGE)
    (tmp_path / "out").mkdir()
    link.silence_after(MARK)
    place = f"s3://{bucket.name}/large"
    code, err = await interrupted(environment, link, tmp_path, "cp", place, "out/large")
    assert code == 130
    assert err == "octad: interrupted; the same command goes on where this one ended\n"
    (unfinished,) = (tmp_path / "out").iterdir()
    assert unfinished.name.endswith(".part")
    assert 16 * MIB <= unfinished.stat().st_size < len(LARGE)
    of_before = unfinished.stat().st_ino
    assert (await asyncio.to_thread(octad, "cp", place, "out/large")).code == 0
    (whole,) = (tmp_path / "out").iterdir()
    assert (whole.name, whole.read_bytes() == LARGE) == ("large", True)
    assert whole.stat().st_ino == of_before


async def test_ctrl_c_in_an_upload_leaves_nothing_under_the_key_and_the_next_one_takes_it_up(
    environment: dict[str, str], bucket: Bucket, link: TcpLink, octad: Octad, tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(LARGE)
    link.silence_after(b"ETag: ")
    place = f"s3://{bucket.name}/large"
    code, err = await interrupted(environment, link, tmp_path, "cp", "large", place)
    assert code == 130
    assert err == "octad: interrupted; the same command goes on where this one ended\n"
    assert not bucket.exists("large")
    assert len(open_uploads(environment, bucket)) == 1
    assert (await asyncio.to_thread(octad, "cp", "large", place)).code == 0
    assert bucket.get("large").data == LARGE
    assert open_uploads(environment, bucket) == []


def open_uploads(environment: dict[str, str], bucket: Bucket) -> list[object]:
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )
    return list(client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []))


def test_the_settings_say_where_they_came_from_and_whether_they_are_well(
    octad: Octad, cluster: DevCluster, environment: dict[str, str]
) -> None:
    shown = octad("config", "show", "--origin")
    rows = [line.split() for line in shown.out.splitlines()]
    assert ["endpoint", cluster.endpoint(), "AWS_ENDPOINT_URL"] in rows
    assert ["coordinator", "-", "not", "set"] in rows
    assert cluster.secret_key not in shown.out.replace(cluster.access_key, "")
    assert "(not shown)" in shown.out
    well = octad("config", "check")
    assert well.code == 0
    assert f"S3 answers, and knows access key {cluster.access_key}" in well.out
    wrong = octad("config", "check", env={"AWS_SECRET_ACCESS_KEY": "x"})
    assert (wrong.code, len(wrong.err.splitlines())) == (1, 1)
    whole = octad("config", "check", "--data", cluster.data, "--json")
    assert whole.code == 0
    assert len(json.loads(whole.out)["nodes"]) == 3
