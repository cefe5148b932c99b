"""Keys that are good for a while come with a token, which goes along signed."""

from __future__ import annotations

import json
from base64 import b64decode
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.unit.client_http.scripted_transport import ScriptedRuntime

from octad import AsyncClient
from octad.client.http.blocking import drive

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("given", [False, True])
def test_the_environments_token_goes_with_the_environments_keys_alone(
    given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "to/ken")
    runtime = ScriptedRuntime({"a": [[OK]]})
    client = AsyncClient("http://a:9000", *(("other", "secret") if given else ()), runtime=runtime)
    bucket = client.bucket("photos")
    drive(bucket.get("k"))
    head = b"".join(runtime.connections[0][1].sent)
    query = parse_qs(urlsplit(drive(bucket.presign("k"))).query)
    form = drive(bucket.presign_post("k", bytes_max=1)).fields
    conditions = json.loads(b64decode(form["policy"]))["conditions"]
    condition = {"x-amz-security-token": "to/ken"}
    assert (b"\r\nx-amz-security-token: to/ken\r\n" in head) is not given
    assert (b";x-amz-security-token," in head) is not given  # Among the headers that are signed.
    assert query.get("X-Amz-Security-Token") == (None if given else ["to/ken"])
    assert (condition in conditions) is not given
    assert form.get("x-amz-security-token") == (None if given else "to/ken")
