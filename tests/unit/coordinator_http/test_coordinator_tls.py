"""A coordinator behind TLS, as its clients meet it; and what each says to the other's protocol."""

from __future__ import annotations

import asyncio
import http.client
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.unit.coordinator.running_coordinator import TOKEN, open_cluster, running
from tests.unit.s3.front_door_site import TlsFiles

from octad.client.cluster.coordinator_calls import CoordinatorsUnreachable
from octad.client.cluster.coordinator_reads import read_json
from octad.client.cluster.service_token import service_token
from octad.client.cluster.status_document import STATUS_PATH
from octad.client.kv import open_kv
from octad.client.membership import lock, register, watch
from octad.client.runtime.command import CommandError
from octad.client.runtime.wrong_protocol import PLAIN_IS_SPOKEN, TLS_IS_SPOKEN
from octad.client.s3.sigv4 import Credentials
from octad.coordinator.cli.admin_client import AdminClient
from octad.coordinator.cli.plan_client import PlanClient
from octad.coordinator.membership.join_client import CoordinatorUnreachable, JoinAnswer, join
from octad.coordinator.schema.admin_messages import ADMIN_BUCKETS_PATH, BucketsDocument
from octad.coordinator.schema.join_messages import JoinRequest
from octad.coordinator.tls.certificate import Certificate

SERVICE = service_token(TOKEN)
ADMIN = Credentials("octad", "octad-secret")
NOT_TRUSTED = r"not trusted .*AWS_CA_BUNDLE"
NODE = JoinRequest(
    cluster=TOKEN.cluster,
    node=None,
    incarnation="incarnation-1",
    rpc_address="127.0.0.1:1",
    s3_address="127.0.0.1:2",
    zone="",
    weight=1.0,
    version="0.1.0",
)


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return TlsFiles(tmp_path)


@asynccontextmanager
async def coordinator_at(tmp_path: Path, files: TlsFiles | None) -> AsyncIterator[str]:
    certificate = None if files is None else Certificate(files.pair, files.pair)
    async with (
        open_cluster(tmp_path) as store,
        running(store, certificate=certificate) as (_, url),
    ):
        yield url


async def test_all_that_asks_a_coordinator_asks_it_over_tls(
    tmp_path: Path, files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = str(files.authority)
    async with coordinator_at(tmp_path, files) as url:
        assert url.startswith("https://")
        joined = await join(url, TOKEN, NODE, authority)
        assert isinstance(joined, JoinAnswer)
        web = register(
            "web", "10.0.0.5:80", coordinator=url, token=SERVICE, authority_file=authority
        )
        reindex = lock("reindex", coordinator=url, token=SERVICE, authority_file=authority)
        settings = open_kv(coordinator=url, token=SERVICE, authority_file=authority)
        async with web, reindex as held, settings as kv:
            assert held.token > 0
            assert await kv.put("colour", b"blue") > 0
            async for event in watch("web", coordinator=url, authority_file=authority):
                assert [each.address for each in event.instances] == ["10.0.0.5:80"]
                break
        monkeypatch.setenv("AWS_CA_BUNDLE", authority)
        assert b"clusters" not in await asyncio.to_thread(read_json, url, STATUS_PATH)
        placed = await asyncio.to_thread(PlanClient(url, TOKEN).status)
        assert placed is not None
        admin = AdminClient(url, ADMIN)
        found = await asyncio.to_thread(admin.ask, "GET", ADMIN_BUCKETS_PATH, BucketsDocument)
        assert found.buckets == ()


async def test_who_does_not_know_its_authority_is_told_how_to_name_it(
    tmp_path: Path, files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    async with coordinator_at(tmp_path, files) as url:
        with pytest.raises(CommandError, match=NOT_TRUSTED):
            await asyncio.to_thread(read_json, url, STATUS_PATH)
        with pytest.raises(CoordinatorUnreachable, match=NOT_TRUSTED):
            await join(url, TOKEN, NODE)
        with pytest.raises(CoordinatorsUnreachable, match=NOT_TRUSTED):
            async for _ in watch("web", coordinator=url):
                pass
        with pytest.raises(ValueError, match="no-such-file"):
            await join(url, TOKEN, NODE, str(tmp_path / "no-such-file"))


async def test_plain_http_to_tls_is_answered_in_words_by_every_client(
    tmp_path: Path, files: TlsFiles
) -> None:
    async with coordinator_at(tmp_path, files) as secured:
        url = secured.replace("https", "http")
        with pytest.raises(CommandError) as read:
            await asyncio.to_thread(read_json, url, STATUS_PATH)
        assert (read.value.what, read.value.fix) == (
            f"{url} speaks TLS, and was asked without",
            f"name it as {secured} in --coordinator",
        )
        with pytest.raises(CommandError, match="speaks TLS"):
            await asyncio.to_thread(PlanClient(url, TOKEN).status)
        admin = AdminClient(url, ADMIN)
        with pytest.raises(CommandError, match="speaks TLS"):
            await asyncio.to_thread(admin.ask, "GET", ADMIN_BUCKETS_PATH, BucketsDocument)
        with pytest.raises(CoordinatorUnreachable, match=TLS_IS_SPOKEN):
            await join(url, TOKEN, NODE)
        with pytest.raises(CoordinatorsUnreachable, match=TLS_IS_SPOKEN):
            async with register("web", "10.0.0.5:80", coordinator=url, token=SERVICE):
                pass
        with pytest.raises(CoordinatorsUnreachable, match=TLS_IS_SPOKEN):
            async for _ in watch("web", coordinator=url):
                pass


async def test_tls_to_plain_http_is_answered_in_words_by_every_client_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with coordinator_at(tmp_path, None) as plain:
        url = plain.replace("http", "https")
        with pytest.raises(CommandError) as read:
            await asyncio.to_thread(read_json, url, STATUS_PATH)
        assert PLAIN_IS_SPOKEN in read.value.what
        assert read.value.fix == "name it with http:// in --coordinator"
        with pytest.raises(CommandError, match=PLAIN_IS_SPOKEN):
            await asyncio.to_thread(PlanClient(url, TOKEN).status)
        with pytest.raises(CoordinatorUnreachable, match=PLAIN_IS_SPOKEN):
            await join(url, TOKEN, NODE)
        with pytest.raises(CoordinatorsUnreachable, match=PLAIN_IS_SPOKEN):
            async with register("web", "10.0.0.5:80", coordinator=url, token=SERVICE):
                pass
        with pytest.raises(CoordinatorsUnreachable, match=PLAIN_IS_SPOKEN):
            async for _ in watch("web", coordinator=url):
                pass
    met = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert [line for line in met if "tried TLS" in line] == [
        "somebody tried TLS (https://) on the coordinator's port, which speaks plain HTTP (http://)"
    ]


async def test_nothing_older_than_tls_1_2_is_spoken(tmp_path: Path, files: TlsFiles) -> None:
    async with coordinator_at(tmp_path, files) as url:
        host, port = url.removeprefix("https://").split(":")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = files.trusting
            context.minimum_version = context.maximum_version = version
            assert await asyncio.to_thread(status_of, host, int(port), context) == 200
        old = files.trusting
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
            await asyncio.to_thread(status_of, host, int(port), old)


async def test_a_renewed_certificate_is_shown_to_new_connections_and_open_ones_go_on(
    tmp_path: Path, files: TlsFiles
) -> None:
    certificate = Certificate(files.pair, files.pair)
    async with (
        open_cluster(tmp_path) as store,
        running(store, certificate=certificate) as (_, url),
    ):
        host, port = url.removeprefix("https://").split(":")
        former = files.trusting
        open_one = http.client.HTTPSConnection(host, int(port), timeout=10, context=former)
        assert await asyncio.to_thread(ask, open_one) == 200
        files.renew()
        certificate.reload()
        assert await asyncio.to_thread(ask, open_one) == 200, "it began with the former one"
        assert await asyncio.to_thread(status_of, host, int(port), files.trusting) == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(status_of, host, int(port), former)
        open_one.close()


def status_of(host: str, port: int, context: ssl.SSLContext) -> int:
    connection = http.client.HTTPSConnection(host, port, timeout=10, context=context)
    try:
        return ask(connection)
    finally:
        connection.close()


def ask(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", STATUS_PATH)
    answer = connection.getresponse()
    answer.read()
    return answer.status
