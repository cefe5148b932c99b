"""The access log: who did what, in JSON, in bounded files that nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import pytest
from tests.unit.s3.front_door_site import ALICE, FrontDoorSite
from tests.unit.s3.http.test_front_door_connections import wait_until
from tests.unit.s3.raw_connection import Wire
from tests.unit.s3.sharing.posted_form import FORM, multipart, signed_fields

from octad.client.s3.sigv4 import Credentials
from octad.sharding.limits import KIB, MIB
from octad.storage_node.s3.handlers.request import HeldBody, Request
from octad.storage_node.s3.http import access_log
from octad.storage_node.s3.http.access_log import AccessLine, AccessLog


@pytest.fixture
def log(site: FrontDoorSite, tmp_path: Path) -> Iterator[AccessLog]:
    log = AccessLog(tmp_path / "access.json")
    site.door.figures.log = log
    yield log
    site.door.figures.log = None
    log.close()


def lines_of(path: Path) -> list[AccessLine]:
    return [msgspec.json.decode(line, type=AccessLine) for line in path.read_bytes().splitlines()]


def some(log: AccessLog, count: int, bucket: str = "bucket") -> None:
    """So many requests are over."""
    request = Request("GET", "/", {}, HeldBody(b""), False, "KEY", "GetObject", bucket)
    for _ in range(count):
        log.add(bytes(16), request, 200, 0, 10, 1_000, 2_000)


def test_a_line_says_who_did_what_and_what_came_of_it(
    site: FrontDoorSite, bucket: str, log: AccessLog, tmp_path: Path
) -> None:
    put = site.request("PUT", f"/{bucket}/key", body=b"12345")
    got = site.request("GET", f"/{bucket}/key")
    impostor = Credentials(ALICE.access_key, "not alice's secret")
    refused = site.request("GET", f"/{bucket}/key", credentials=impostor)
    wait_until(lambda: len(lines_of(tmp_path / "access.json")) == 3)
    lines = lines_of(tmp_path / "access.json")
    assert [line.request_id for line in lines] == [
        answer.headers["x-amz-request-id"] for answer in (put, got, refused)
    ]
    told = [
        (line.key_id, line.operation, line.bucket, line.status, line.received_bytes)
        for line in lines
    ]
    assert told == [
        (ALICE.access_key, "PutObject", bucket, 200, 5),
        (ALICE.access_key, "GetObject", bucket, 200, 0),
        ("", "none", "", 403, 0),  # Who it was is not known, whatever it says.
    ]
    assert [line.sent_bytes for line in lines] == [0, 5, len(refused.body)]
    for line in lines:
        assert 0 < line.first_byte_s <= line.seconds < 10
        assert line.time.endswith("Z")


def test_a_form_has_a_line_with_the_key_that_signed_it(
    site: FrontDoorSite, bucket: str, log: AccessLog, tmp_path: Path
) -> None:
    impostor = Credentials(ALICE.access_key, "not alice's secret")
    for signer, expires_s in ((ALICE, 60), (ALICE, -60), (impostor, 60)):
        fields = signed_fields(bucket, {"key": "k"}, signer, site.region, expires_s=expires_s)
        body = multipart(fields, b"data")
        headers = {"host": site.host, "content-length": str(len(body)), **FORM}
        site.raw("POST", f"/{bucket}", headers, body)
    wait_until(lambda: len(lines_of(tmp_path / "access.json")) == 3)
    lines = lines_of(tmp_path / "access.json")
    assert {line.operation for line in lines} == {"PostObject"}
    told = [(line.key_id, line.status) for line in lines]
    assert told == [(ALICE.access_key, 204), (ALICE.access_key, 403), ("", 403)]


def test_a_client_that_leaves_has_a_line_without_a_status(
    site: FrontDoorSite, bucket: str, log: AccessLog, tmp_path: Path
) -> None:
    client = Wire(site)
    client.send_head("PUT", f"/{bucket}/key", {"content-length": str(2 * MIB)})
    client.socket.sendall(bytes(MIB))
    wait_until(lambda: site.door.figures.in_flight == 1)
    client.socket.close()
    wait_until(lambda: bool(lines_of(tmp_path / "access.json")))
    [line] = lines_of(tmp_path / "access.json")
    assert (line.operation, line.status, line.sent_bytes) == ("PutObject", None, 0)


def test_all_files_together_are_bounded_and_have_the_newest_lines(tmp_path: Path) -> None:
    path = tmp_path / "access.json"
    log = AccessLog(path, 64 * KIB)
    for number in range(100):
        some(log, 64, f"bucket-{number}")
    log.close()
    files = list(tmp_path.iterdir())
    assert {file.name for file in files} == {path.name, *(f"{path.name}.{n}" for n in (1, 2, 3))}
    assert sum(file.stat().st_size for file in files) <= 4 * (64 * KIB + 64 * KIB)
    newest = lines_of(path) or lines_of(tmp_path / "access.json.1")
    assert newest[-1].bucket == "bucket-99"
    assert log.left_out == 0
    assert access_log._FILE_BYTES_MAX + 64 * KIB == access_log.ACCESS_LOG_BYTES_MAX // 4
    again = AccessLog(path)
    some(again, 1)
    again.close()
    assert lines_of(path)[-1].bucket == "bucket", "it goes on behind what is there"


def test_a_disk_that_hangs_holds_up_nobody_and_takes_no_memory_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = threading.Event()
    monkeypatch.setattr(access_log, "LINES_WAITING_MAX", 100)
    monkeypatch.setattr(access_log, "open_log", lambda *_: Hanging(hangs, tmp_path / "log"))
    log = AccessLog(tmp_path / "log")
    some(log, 1000)  # It would not come back from here.
    assert 800 < log.left_out <= 900  # One batch may be on its way to the disk.
    hangs.set()
    log.close()
    assert len(lines_of(tmp_path / "log")) == 1000 - log.left_out


class Hanging:
    """A file whose writes wait for an event, and take a few bytes each."""

    def __init__(self, until: threading.Event, path: Path) -> None:
        self._until = until
        self._file: BinaryIO = path.open("ab", buffering=0)

    def write(self, data: memoryview) -> int:
        self._until.wait(30)
        return self._file.write(data[:1000])

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


def test_a_full_disk_costs_lines_and_no_requests(
    site: FrontDoorSite, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = AccessLog(Path("/dev/full"))
    site.door.figures.log = log
    for _ in range(3):
        assert site.request("PUT", f"/{bucket}/key", body=b"x").status == 200
    wait_until(lambda: site.door.figures.in_flight == 0)
    site.door.figures.log = None
    log.close()
    assert log.left_out == 3
    assert any("No space left" in message for message in caplog.messages)


def test_a_line_that_was_torn_by_a_full_disk_spoils_none_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Filling(tmp_path / "log", room=50)
    monkeypatch.setattr(access_log, "open_log", lambda *_: file)
    log = AccessLog(tmp_path / "log")
    some(log, 1)
    wait_until(lambda: log.left_out == 1)
    file.room = MIB
    some(log, 1)
    log.close()
    torn, whole = (tmp_path / "log").read_bytes().splitlines()
    assert len(torn) == 50
    assert msgspec.json.decode(whole, type=AccessLine).bucket == "bucket"


def test_a_log_that_was_taken_away_begins_anew_and_what_had_no_place_is_counted(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    log = AccessLog(directory / "log")
    for step in ("moved", "removed", "without a directory", "back"):
        if step == "moved":
            (directory / "log").rename(directory / "old")
        elif step == "removed":
            (directory / "log").unlink()
        elif step == "without a directory":
            directory.rename(tmp_path / "elsewhere")
        else:
            directory.mkdir()
        some(log, 1, step)
        if step == "without a directory":
            wait_until(lambda: log.left_out == 1)
        else:
            wait_until(lambda: (directory / "log").exists())
            wait_until(lambda: bool((directory / "log").stat().st_size))
            assert [line.bucket for line in lines_of(directory / "log")] == [step]
    log.close()
    assert log.left_out == 1


class Filling(Hanging):
    """A file on a disk that has room for so many bytes."""

    def __init__(self, path: Path, room: int) -> None:
        done = threading.Event()
        done.set()
        super().__init__(done, path)
        self.room = room

    def write(self, data: memoryview) -> int:
        if not self.room:
            raise OSError(28, "No space left on device")
        count = super().write(data[: self.room])
        self.room -= count
        return count


@pytest.mark.parametrize("name", ["\udcff\udcfe", "x" * 5000, '"\n{'])
def test_whatever_a_bucket_is_called_a_line_is_one_line(tmp_path: Path, name: str) -> None:
    log = AccessLog(tmp_path / "log")
    some(log, 2, name)
    log.close()
    assert len(lines_of(tmp_path / "log")) == 2
    assert (tmp_path / "log").stat().st_size < 2 * KIB
