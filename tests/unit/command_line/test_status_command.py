"""`octad status`: finds the coordinator, shows its answer, exits with how things are."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest

from octad.client.cli.command_line import main
from octad.client.cli.coordinator_option import DEV_COORDINATOR_FIELD
from octad.client.cli.status_table import status_table
from octad.client.cluster.status_document import (
    STATUS_PATH,
    ClusterState,
    ClusterStatus,
    CoordinatorStatus,
    NodeStatus,
    PoolStatus,
    StoreStatus,
)

TABLE = """\
cluster 1a2b3c4d: degraded
  ! n2 is not live

NODE  STATE  S3              RPC             ZONE    VERSION  PRIMARY OF  MEMBER OF
n1    live   127.0.0.1:9000  127.0.0.1:7000  rack-1  0.1.0    200         256
n2    down   ?               ?               -       ?        56          256

pool 0: 2 copies, 256 shards: 200 writes-blocked, 56 unavailable
store: embedded at http://127.0.0.1:9500, revision 42
coordinator: 127.0.0.1:9400, version 0.1.0; leader: no one
"""


def status(state: ClusterState) -> ClusterStatus:
    n1 = NodeStatus(
        "n1", True, None, "disk-1", "127.0.0.1:7000", "127.0.0.1:9000", "rack-1", 1.0, "0.1.0",
        200, 256,
    )  # fmt: skip
    n2 = NodeStatus("n2", False, None, "disk-2", None, None, None, None, None, 56, 256)
    counts = {"ok": 0, "writes-blocked": 200, "unavailable": 56, "forming": 0}
    return ClusterStatus(
        cluster="1a2b3c4d",
        state=state,
        problems=("n2 is not live",),
        store=StoreStatus("embedded", ("http://127.0.0.1:9500",), 42),
        coordinator=CoordinatorStatus("127.0.0.1:9400", "0.1.0", False, None),
        pools=(msgspec.convert({"id": 0, "replicas": 2, "depth": 8, "nodes_missing": 0,
                                "shards": counts}, PoolStatus),),
        nodes=(n1, n2),
    )  # fmt: skip


class FakeCoordinator:
    """Answers every GET with what it is told to."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] = (200, msgspec.json.encode(status("healthy")))
        self.paths: list[str] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.paths.append(self.path)
                code, body = fake.answer
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def coordinator() -> Iterator[FakeCoordinator]:
    fake = FakeCoordinator()
    thread = threading.Thread(target=fake.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield fake
    fake.server.shutdown()
    thread.join()
    fake.server.server_close()


def test_the_table_shows_everything_in_aligned_columns() -> None:
    assert status_table(status("degraded")) == TABLE


@pytest.mark.parametrize(("state", "code"), [("healthy", 0), ("degraded", 3), ("forming", 3)])
def test_the_exit_code_says_how_things_are(
    coordinator: FakeCoordinator,
    capsys: pytest.CaptureFixture[str],
    state: ClusterState,
    code: int,
) -> None:
    coordinator.answer = (200, msgspec.json.encode(status(state)))
    assert main(["status", "--coordinator", coordinator.url]) == code
    assert capsys.readouterr().out == TABLE.replace("degraded", state)
    assert coordinator.paths == [STATUS_PATH]


def test_json_is_the_coordinators_own_document(
    coordinator: FakeCoordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    body = msgspec.json.encode(status("degraded"))[:-1] + b',"of a newer coordinator":1}'
    coordinator.answer = (200, body)
    assert main(["status", "--json", "--coordinator", coordinator.url]) == 3
    assert json.loads(capsys.readouterr().out) == json.loads(body)


def test_the_coordinator_of_octad_dev_is_found_through_its_data_directory(
    coordinator: FakeCoordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "octad-data"
    data.mkdir()
    (data / "dev.json").write_text(json.dumps({DEV_COORDINATOR_FIELD: coordinator.url}))
    assert main(["status", "--data", str(data)]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["status"]) == 0


def test_proxies_are_not_asked(
    coordinator: FakeCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert main(["status", "--coordinator", coordinator.url]) == 0


def test_nobody_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--coordinator", "http://127.0.0.1:1"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("octad: no coordinator answers at http://127.0.0.1:1 (")
    assert "octad dev" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "answer", [(404, b"nothing"), (200, b"<html>"), (200, b"{}"), (200, b'{"format":2}')]
)
def test_something_else_at_that_address_is_one_line(
    coordinator: FakeCoordinator,
    capsys: pytest.CaptureFixture[str],
    answer: tuple[int, bytes],
) -> None:
    coordinator.answer = answer
    assert main(["status", "--coordinator", coordinator.url]) == 1
    error = capsys.readouterr().err
    assert "did not answer like a coordinator" in error
    assert error.count("\n") == 1


def test_what_is_no_url_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    for bad in ("localhost:9400", "ftp://h", "http://", "http://h:x", "http://[::1"):
        assert main(["status", "--coordinator", bad]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"coordinator": 1}'])
def test_a_damaged_dev_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / "dev.json").write_text(content)
    assert main(["status", "--data", str(tmp_path)]) in (1, 2)
    assert capsys.readouterr().err.count("\n") == 1
