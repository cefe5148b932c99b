"""Which cluster the verbs for objects ask, and with whose keys: options, environment, octad dev.

An option comes before the environment, and that before the `octad dev` whose data is here. Each
value is kept with where it came from, as `octad config show` tells it.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from octad.client.cli.coordinator_option import (
    DEFAULT_DATA,
    DEV_ACCESS_KEY_FIELDS,
    DEV_CLUSTER_FILE,
    DEV_COORDINATOR_FIELD,
    DEV_FILE,
)
from octad.client.runtime.command import EXIT_USAGE, CommandError
from octad.client.runtime.shown_command import shown_command

if TYPE_CHECKING:
    from octad.client.http.transport import Runtime
    from octad.client.objects.async_client import AsyncClient
    from octad.client.objects.client import Client

NOWHERE = "not set"
ENDPOINT, COORDINATOR = "endpoint", "coordinator"
ACCESS_KEY, SECRET_KEY = "access_key", "secret_key"
REGION, AUTHORITY = "region", "trusted_authority"
_VARIABLES = {
    ENDPOINT: ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    COORDINATOR: ("OCTAD_COORDINATOR",),
    ACCESS_KEY: ("AWS_ACCESS_KEY_ID",),
    SECRET_KEY: ("AWS_SECRET_ACCESS_KEY",),
    REGION: ("AWS_REGION", "AWS_DEFAULT_REGION"),
    AUTHORITY: ("AWS_CA_BUNDLE",),
}
_REGION_DEFAULT = "us-east-1"


class Setting(NamedTuple):
    """A value and where it came from; `value` is "" where it came from nowhere."""

    value: str
    origin: str


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """`--endpoint`, `--coordinator`, `--data`."""
    parser.add_argument("--endpoint", metavar="URL", help="where S3 answers (AWS_ENDPOINT_URL)")
    parser.add_argument(
        "--coordinator", metavar="URL", help="a coordinator, which knows (OCTAD_COORDINATOR)"
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        help=f"of an octad dev, to find both and its key (default: {DEFAULT_DATA})",
    )


def settings_found(
    arguments: argparse.Namespace, environment: Mapping[str, str]
) -> dict[str, Setting]:
    """All settings by name, in the order in which people read them. Raises CommandError."""
    folder: Path = arguments.data or Path(DEFAULT_DATA)
    origin = f"octad dev in {folder}"
    dev = {name: Setting(value, origin) for name, value in _of_dev(folder).items()}
    found = {name: _of_environment(names, environment) for name, names in _VARIABLES.items()}
    options = {ENDPOINT: arguments.endpoint, COORDINATOR: arguments.coordinator}
    given = {name: Setting(url, f"--{name}") for name, url in options.items() if url}
    if given:
        found |= {ENDPOINT: _NONE, COORDINATOR: _NONE, **given}
    elif arguments.data is not None:
        found |= {ENDPOINT: _NONE, COORDINATOR: _NONE, ACCESS_KEY: _NONE, SECRET_KEY: _NONE}
        found |= dev
    elif not found[ENDPOINT].value and not found[COORDINATOR].value:
        for name in (ENDPOINT, COORDINATOR, AUTHORITY):
            found[name] = dev.get(name, found[name])
    if not found[ACCESS_KEY].value and not found[SECRET_KEY].value:
        found |= {name: dev[name] for name in (ACCESS_KEY, SECRET_KEY) if name in dev}
    if not found[REGION].value:
        found[REGION] = Setting(_REGION_DEFAULT, "default")
    return found


def connected(arguments: argparse.Namespace) -> Client:
    """A client without an event loop. Raises CommandError."""
    from octad.client.objects.client import Client

    return Client(**_client_arguments(arguments))


def connected_async(arguments: argparse.Namespace, runtime: Runtime | None = None) -> AsyncClient:
    """On asyncio, unless another way to wait is named. Raises CommandError."""
    from octad.client.objects.async_client import AsyncClient

    return AsyncClient(**_client_arguments(arguments), runtime=runtime)


_NONE = Setting("", NOWHERE)


def _client_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    found = settings_found(arguments, os.environ)
    if not found[ENDPOINT].value and not found[COORDINATOR].value:
        folder = arguments.data or Path(DEFAULT_DATA)
        if arguments.data is not None or (folder / DEV_CLUSTER_FILE).exists():
            raise CommandError(
                f"no octad dev runs on {folder}",
                f"start it: {shown_command('octad', 'dev', '--data', folder)}",
            )
        raise CommandError(
            "which cluster is not said",
            "set AWS_ENDPOINT_URL, give --endpoint http://HOST:9000, or start one here: octad dev",
            EXIT_USAGE,
        )
    for name in (ACCESS_KEY, SECRET_KEY):
        if not found[name].value:
            raise CommandError(
                f"no {name.replace('_', ' ')} is known",
                f"set {ACCESS_KEY_VARIABLE} and {SECRET_KEY_VARIABLE}"
                " (an admin makes them: octad key create NAME)",
                EXIT_USAGE,
            )
    for name in (ENDPOINT, COORDINATOR):
        if not found[name].value:  # The SDK would take what an option has overruled.
            for variable in _VARIABLES[name]:
                os.environ.pop(variable, None)
    of_environment = found[ACCESS_KEY].origin == ACCESS_KEY_VARIABLE  # Maybe with a session token.
    return {
        "endpoint": found[ENDPOINT].value or None,
        "access_key": None if of_environment else found[ACCESS_KEY].value,
        "secret_key": None if of_environment else found[SECRET_KEY].value,
        "coordinator": found[COORDINATOR].value or None,
        "region": found[REGION].value,
        "authority_file": found[AUTHORITY].value or None,
    }


ACCESS_KEY_VARIABLE, SECRET_KEY_VARIABLE = _VARIABLES[ACCESS_KEY][0], _VARIABLES[SECRET_KEY][0]


def _of_environment(names: tuple[str, ...], environment: Mapping[str, str]) -> Setting:
    for name in names:
        if environment.get(name):
            return Setting(environment[name], name)
    return _NONE


def _of_dev(folder: Path) -> dict[str, str]:
    """What an `octad dev` says of itself, as far as it is there."""
    found = {}
    running = _document(folder / DEV_FILE)
    if running:
        authority = str(running.get("authority") or "")
        scheme = "https" if authority else "http"
        nodes = [f"{scheme}://{node['s3']}" for node in running.get("nodes", ()) if node.get("s3")]
        found[ENDPOINT] = ",".join(nodes)
        found[COORDINATOR] = str(running.get(DEV_COORDINATOR_FIELD) or "")
        found[AUTHORITY] = authority
    cluster = _document(folder / DEV_CLUSTER_FILE)
    for name, field in zip((ACCESS_KEY, SECRET_KEY), DEV_ACCESS_KEY_FIELDS, strict=True):
        found[name] = str(cluster.get(field) or "")
    return {name: value for name, value in found.items() if value}


def _document(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CommandError(
            f"{file} cannot be read ({error})", "name the cluster: --endpoint URL"
        ) from error
    return found if isinstance(found, dict) else {}
