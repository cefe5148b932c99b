"""Chooses a verb's coordinator: a named one, that of an `octad dev`, or this machine's."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from octad.client.runtime.address import DEFAULT_COORDINATOR_PORT
from octad.client.runtime.command import CommandError
from octad.client.runtime.shown_command import shown_command

DEFAULT_DATA = "./octad-data"
DEV_FILE = "dev.json"  # The file in which `octad dev` describes itself, in its data directory.
DEV_COORDINATOR_FIELD = "coordinator"
DEV_CLUSTER_FILE = "cluster.json"  # Readable by its owner only.
DEV_TOKEN_FIELD = "join_token"
DEV_ACCESS_KEY_FIELDS = ("access_key", "secret_key")
DEV_ETCD_FIELD = "etcd"
DEV_STORE_FILE = "store.sqlite"  # The configuration store, where `octad dev` uses no etcd.
DEV_STORE_FIELD = "store_url"  # Where the store of a running `octad dev` answers.


def add_coordinator_options(parser: argparse.ArgumentParser) -> None:
    """`--coordinator` and `--data`."""
    parser.add_argument("--coordinator", metavar="URL", help="a coordinator's URL")
    parser.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        default=Path(DEFAULT_DATA),
        help=f"where octad dev keeps its data, to find its coordinator (default: {DEFAULT_DATA})",
    )


def coordinator_url(arguments: argparse.Namespace) -> str:
    """The URL to ask; raises CommandError."""
    named: str | None = arguments.coordinator
    if named:
        return named
    found = _field(arguments.data / DEV_FILE, DEV_COORDINATOR_FIELD, "--coordinator URL")
    if found is None and (arguments.data / DEV_CLUSTER_FILE).exists():
        raise CommandError(
            f"no octad dev runs on {arguments.data}",
            f"start it: {shown_command('octad', 'dev', '--data', arguments.data)}",
        )
    return found or f"http://127.0.0.1:{DEFAULT_COORDINATOR_PORT}"


def dev_join_token(arguments: argparse.Namespace) -> str | None:
    """The join token of the `octad dev` whose data is here, if there is one."""
    return _field(arguments.data / DEV_CLUSTER_FILE, DEV_TOKEN_FIELD, "--token TOKEN")


def dev_access_key(arguments: argparse.Namespace) -> tuple[str, str] | None:
    """The first access key of the `octad dev` whose data is here, and its secret."""
    file, fix = arguments.data / DEV_CLUSTER_FILE, "name an admin's in the environment"
    access_key, secret_key = (_field(file, name, fix) for name in DEV_ACCESS_KEY_FIELDS)
    return None if access_key is None or secret_key is None else (access_key, secret_key)


def dev_authority(arguments: argparse.Namespace) -> str | None:
    """The file of whom clients of the `octad dev` whose data is here must trust; None: no one."""
    try:
        running = json.loads((arguments.data / DEV_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return str(running.get("authority") or "") or None


def _field(file: Path, name: str, option: str) -> str | None:
    try:
        return str(json.loads(file.read_bytes())[name])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandError(
            f"{file} does not say what {name} is ({error})", f"name it: {option}"
        ) from error
