#!/opt/octad/bin/python
"""Exits with 0 if a URL answers with 200: what a container's health check asks.

    healthcheck URL

Nodes and coordinators answer so on /readyz.
"""

from __future__ import annotations

import http.client
import ssl
import sys
from urllib.parse import urlsplit

TIMEOUT_S = 4.0
# It asks its own container, whose certificate is for other names.
_WHOEVER_ANSWERS = ssl.create_default_context()
_WHOEVER_ANSWERS.check_hostname, _WHOEVER_ANSWERS.verify_mode = False, ssl.CERT_NONE


def main(words: list[str]) -> int:
    if len(words) != 1:
        print("usage: healthcheck URL", file=sys.stderr)
        return 2
    url = urlsplit(words[0])
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=TIMEOUT_S)
    if url.scheme == "https":
        connection = http.client.HTTPSConnection(
            url.hostname or "", url.port, timeout=TIMEOUT_S, context=_WHOEVER_ANSWERS
        )
    try:
        connection.request("GET", url.path or "/")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        connection.close()
    if status != http.client.OK:
        print(f"status {status}", file=sys.stderr)
    return int(status != http.client.OK)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
