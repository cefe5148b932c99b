"""`octad status`: how a cluster is, as its coordinator tells it.

Exit codes: 0 healthy, 1 not reachable, 3 degraded or still forming. `--json` prints the
coordinator's document as it came (`docs/reference/coordinator-http.md`).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from octad.client.core.address import DEFAULT_COORDINATOR_PORT
from octad.client.shell.command import CommandError

HELP = "show the cluster: nodes, shards by state, versions, configuration store"

DEFAULT_DATA = "./octad-data"
DEV_FILE = "dev.json"  # What `octad dev` says of itself, in its data directory.
DEV_COORDINATOR_FIELD = "coordinator"
EXIT_DEGRADED = 3
_TIMEOUT_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--coordinator", metavar="URL", help="a coordinator's URL")
    parser.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        default=Path(DEFAULT_DATA),
        help=f"where octad dev keeps its data, to find its coordinator (default: {DEFAULT_DATA})",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    url = arguments.coordinator or _coordinator_of_dev(arguments.data)
    body = _fetch(url)
    from octad.client.core.status_document import BadStatus, decode_status
    from octad.client.core.status_table import status_table

    try:
        status = decode_status(body)
    except BadStatus as error:
        raise _not_a_coordinator(url, str(error)) from error
    sys.stdout.write(body.decode() + "\n" if arguments.json else status_table(status))
    return 0 if status.state == "healthy" else EXIT_DEGRADED


def _coordinator_of_dev(data: Path) -> str:
    try:
        document = json.loads((data / DEV_FILE).read_bytes())
        return str(document[DEV_COORDINATOR_FIELD])
    except FileNotFoundError:
        return f"http://127.0.0.1:{DEFAULT_COORDINATOR_PORT}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandError(
            f"{data / DEV_FILE} does not say where the coordinator is ({error})",
            "name it: octad status --coordinator URL",
        ) from error


def _fetch(url: str) -> bytes:
    """The body of the status answer. Proxies are not asked: a cluster is on one's own network."""
    import http.client
    from urllib.parse import urlsplit

    from octad.client.core.status_document import STATUS_PATH

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or DEFAULT_COORDINATOR_PORT
    except ValueError:
        host = None
    if host is None or parts.scheme != "http":
        raise CommandError(f"{url!r} is not http://host:port", "correct --coordinator", 2)
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", STATUS_PATH)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(
            f"no coordinator answers at {url} ({error or type(error).__name__})",
            "start one (octad dev, octad coordinator), or name it with --coordinator URL",
        ) from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise _not_a_coordinator(
            url, f"status {response.status}: {body[:200].decode(errors='replace')}"
        )
    return body


def _not_a_coordinator(url: str, why: str) -> CommandError:
    return CommandError(
        f"{url} did not answer like a coordinator ({why})", "check the URL, and its log"
    )
