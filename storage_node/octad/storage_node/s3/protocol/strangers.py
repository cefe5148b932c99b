"""The page for a browser without credentials at the S3 port: it says what this is, and not only
that access is denied. It says nothing of any bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

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


def is_browser_at_root(method: str, target: str, headers: Mapping[str, str]) -> bool:
    """Whether the request is a browser's."""
    return (
        (method, target) == ("GET", "/")
        and "authorization" not in headers
        and "text/html" in headers.get("accept", "")
    )


def browser_page() -> Answer:
    """The page that a browser gets in place of `AccessDenied`."""
    return Answer(200, _PAGE_HEAD, _PAGE)
