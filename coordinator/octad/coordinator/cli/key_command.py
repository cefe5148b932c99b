"""`octad key create|ls|disable|rm`: access keys of owners, asked for with an admin's key.

Exit codes: 0 done, 1 refused or not reachable, 2 no admin's key is known.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from octad.client.cli.coordinator_option import add_coordinator_options

if TYPE_CHECKING:
    from octad.coordinator.cli.admin_client import AdminClient


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    create = verbs.add_parser("create", help="make an access key; an owner has two valid at most")
    create.add_argument("owner", metavar="NAME", help="the owner: a-z, 0-9 and -")
    create.add_argument("--admin", action="store_true", help="it may sign what only admins may ask")
    ls = verbs.add_parser("ls", help="list the access keys, without their secrets")
    disable = verbs.add_parser("disable", help="let a key open nothing any more")
    rm = verbs.add_parser("rm", help="remove a key")
    for verb in (disable, rm):
        verb.add_argument("key", metavar="KEY", help="the access key")
    for verb in (create, ls, disable, rm):
        add_coordinator_options(verb)
        verb.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    from octad.coordinator.cli.admin_client import admin_client

    client = admin_client(arguments)
    if arguments.verb == "create":
        _create(client, arguments)
    elif arguments.verb == "ls":
        _list(client, as_json=arguments.json)
    else:
        _end(client, arguments)
    return 0


def _create(client: AdminClient, arguments: argparse.Namespace) -> None:
    """Generates the key and its secret here, so that a retry creates the same key."""
    import secrets

    import msgspec

    from octad.coordinator.recovery.create_cluster import new_access_key
    from octad.coordinator.schema.admin_messages import (
        ADMIN_KEYS_PATH,
        CreateKeyRequest,
        KeyDocument,
        seal_new_secret,
    )
    from octad.coordinator.schema.sealing import NONCE_BYTES

    access_key, secret = new_access_key()
    sealed = seal_new_secret(
        client.credentials.secret_key, access_key, secret, secrets.token_bytes(NONCE_BYTES)
    )
    wanted = CreateKeyRequest(arguments.owner, sealed, arguments.admin)
    made = client.ask("PUT", f"{ADMIN_KEYS_PATH}/{access_key}", KeyDocument, wanted)
    if arguments.json:
        shown = {**msgspec.to_builtins(made), "secret_key": secret}
        print(msgspec.json.encode(shown).decode())
        return
    print(
        f"A new access key of {made.owner}{', an admin' if made.admin else ''}."
        " Keep the secret, it is not shown again:\n"
        f"  access key  {access_key}\n"
        f"  secret key  {secret}\n"
        f"  owner id    {made.owner_id}\n\n"
        "for every client:\n"
        f"  export AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY={secret}"
    )


def _list(client: AdminClient, *, as_json: bool) -> None:
    import msgspec

    from octad.client.cli.status_table import columns
    from octad.coordinator.schema.admin_messages import ADMIN_KEYS_PATH, KeysDocument

    document = client.ask("GET", ADMIN_KEYS_PATH, KeysDocument)
    if as_json:
        print(msgspec.json.encode(document).decode())
        return
    rows = [
        (
            key.owner,
            key.access_key,
            "disabled" if key.disabled else "valid",
            "admin" if key.admin else "-",
            key.owner_id,
        )
        for key in document.keys
    ]
    print("\n".join(columns([("OWNER", "ACCESS KEY", "STATE", "MAY", "OWNER ID"), *rows])))


def _end(client: AdminClient, arguments: argparse.Namespace) -> None:
    from urllib.parse import quote

    import msgspec

    from octad.coordinator.schema.admin_messages import ADMIN_KEYS_PATH, KeyDocument

    path = f"{ADMIN_KEYS_PATH}/{quote(arguments.key, safe='')}"
    if arguments.verb == "disable":
        document: object = client.ask("POST", f"{path}/disable", KeyDocument)
    else:
        document = client.ask("DELETE", path, dict[str, str])
    if arguments.json:
        print(msgspec.json.encode(document).decode())
    else:
        done = "disabled" if arguments.verb == "disable" else "removed"
        print(f"access key {arguments.key} is {done}; within seconds no node takes it any more")
