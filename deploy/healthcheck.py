#!/opt/octad/bin/python
"""Exits with 0 if a URL answers with the expected status: what a container's health check asks.

    healthcheck URL [STATUS]

A node answers 403 to a stranger, which shows that its front door is open; a coordinator answers
200 on /readyz.
"""

from __future__ import annotations

import http.client
import sys
from urllib.parse import urlsplit

TIMEOUT_S = 4.0


def main(words: list[str]) -> int:
    if len(words) not in (1, 2):
        print("usage: healthcheck URL [STATUS]", file=sys.stderr)
        return 2
    url, expected = urlsplit(words[0]), int(words[1]) if len(words) == 2 else 200
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", url.path or "/")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        connection.close()
    if status != expected:
        print(f"status {status}, expected {expected}", file=sys.stderr)
    return int(status != expected)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
