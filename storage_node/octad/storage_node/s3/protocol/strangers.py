"""What somebody without credentials is told who does not come with an S3 client.

Browsers come to `/` to see what this is, ask before a script's request whether it may be made, and
send forms. S3 answers each in its own words, which say what to do; `AccessDenied` alone would not.
None of it tells whether a bucket or an object exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from octad.client.s3.errors import S3Error
from octad.storage_node.s3.protocol.answers import Answer

_PAGE: Final = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>octad</title>
<h1>octad</h1>
<p>This is an object store that speaks S3, and this is the port where S3 clients reach it:
give them this address as their endpoint, and an access key with its secret.</p>
<p>There is nothing else to see here with a browser.</p>
</html>
"""
_PAGE_HEAD: Final = (
    "Content-Type: text/html; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
    "Content-Security-Policy: default-src 'none'\r\n"
)
_FORM: Final = "multipart/form-data"


def word_to_stranger(
    method: str, target: str, headers: Mapping[str, str]
) -> Answer | S3Error | None:
    """The answer in place of `AccessDenied`; None where that is the answer."""
    path, _, query = target.partition("?")
    if method == "OPTIONS":
        return _to_preflight(path, headers)
    if query or "authorization" in headers:
        return None
    if method == "GET" and path == "/" and "text/html" in headers.get("accept", ""):
        return Answer(200, _PAGE_HEAD, _PAGE)
    if method == "POST" and headers.get("content-type", "").lower().startswith(_FORM):
        return S3Error("NotImplemented", "Uploads by an HTML form are not implemented.")
    return None


def _to_preflight(path: str, headers: Mapping[str, str]) -> S3Error:
    if "origin" not in headers:
        return S3Error("BadRequest", "Insufficient information. Origin request header needed.")
    method = headers.get("access-control-request-method")
    if method not in ("GET", "PUT", "HEAD", "POST", "DELETE"):
        return S3Error("BadRequest", f"Invalid Access-Control-Request-Method: {method or 'null'}")
    is_object = "/" in path.strip("/")
    return S3Error(
        "AccessForbidden",
        fields={"Method": method, "ResourceType": "OBJECT" if is_object else "BUCKET"},
    )
