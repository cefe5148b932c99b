"""`octad bucket create|rm|cors|ls|quota|public`: buckets, what they take, and who may open them.

`create`, `rm` and `cors` go to S3, with any key; the others to a coordinator, with an admin's.

Exit codes: 0 done, 1 refused or not reachable, 2 no key is known, or no size, 4 no such bucket, or
it has no rules.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from octad.client.cli.access.connection import add_connection_options
from octad.client.cli.coordinator_option import add_coordinator_options
from octad.coordinator.cli.bucket_cors import add_cors_arguments, run_cors

if TYPE_CHECKING:
    from octad.coordinator.cli.admin_client import AdminClient
    from octad.coordinator.schema.admin_messages import PublicDocument

_NO_QUOTA = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    create = verbs.add_parser("create", help="make a bucket; its owner is the key's")
    create.add_argument("bucket", metavar="NAME", help="3 to 63 of a-z, 0-9, - and .")
    create.add_argument("--pool", metavar="POOL", default="", help="where it lies (default: 0)")
    create.add_argument(
        "--strict", action="store_true", help="it refuses writes while a copy is missing"
    )
    remove = verbs.add_parser("rm", help="remove an empty bucket")
    remove.add_argument("bucket", metavar="NAME", help="the bucket")
    for verb in (create, remove):
        add_connection_options(verb)
        verb.add_argument("--json", action="store_true", help="print one JSON document")
    add_cors_arguments(verbs.add_parser("cors", help="which web pages may ask for its objects"))
    ls = verbs.add_parser("ls", help="list the buckets: owner, objects, bytes, quota")
    quota = verbs.add_parser("quota", help="let a bucket take so much and no more")
    quota.add_argument("bucket", metavar="NAME", help="the bucket")
    quota.add_argument("size", metavar="SIZE", help=f"as in 500MB, 10GiB or 0; or {_NO_QUOTA}")
    public = verbs.add_parser("public", help="lift what keeps a bucket from the public")
    public.add_argument("bucket", metavar="NAME", help="the bucket")
    public.add_argument("--off", action="store_true", help="put it back: nothing of it is public")
    for verb in (ls, quota, public):
        add_coordinator_options(verb)
        verb.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    if arguments.verb in ("create", "rm"):
        _create_or_remove(arguments)
        return 0
    if arguments.verb == "cors":
        return run_cors(arguments)
    from octad.coordinator.cli.admin_client import admin_client

    if arguments.verb == "quota":
        quota_bytes = _size_of(arguments.size)
        _set_quota(admin_client(arguments), arguments, quota_bytes)
    elif arguments.verb == "public":
        _allow_public(admin_client(arguments), arguments)
    else:
        _list(admin_client(arguments), as_json=arguments.json)
    return 0


def _create_or_remove(arguments: argparse.Namespace) -> None:
    import json

    from octad.client.cli.access.connection import connected
    from octad.client.cli.access.places import S3Place
    from octad.client.cli.access.refusals import refusals_of

    name = arguments.bucket.removeprefix("s3://").rstrip("/")
    with refusals_of(S3Place(name, "")), connected(arguments) as client:
        if arguments.verb == "create":
            client.create_bucket(name, pool=arguments.pool, strict=arguments.strict)
        else:
            client.delete_bucket(name)
    done = "created" if arguments.verb == "create" else "removed"
    print(json.dumps({"bucket": name, "done": done}) if arguments.json else f"{done} s3://{name}")


def _size_of(text: str) -> int | None:
    from octad.client.cli.format_units import bytes_of

    return None if text.lower() == _NO_QUOTA else bytes_of(text)


def _set_quota(client: AdminClient, arguments: argparse.Namespace, quota_bytes: int | None) -> None:
    import msgspec

    from octad.client.cli.format_units import shown_bytes
    from octad.coordinator.schema.admin_messages import BucketDocument, QuotaRequest

    path = _path_of(arguments.bucket, "quota")
    bucket = client.ask("PUT", path, BucketDocument, QuotaRequest(quota_bytes))
    if arguments.json:
        print(msgspec.json.encode(bucket).decode())
    elif quota_bytes is None:
        print(f"bucket {bucket.name} has no quota; it takes {shown_bytes(bucket.bytes)}")
    else:
        print(
            f"bucket {bucket.name} may take {shown_bytes(quota_bytes)};"
            f" it takes {shown_bytes(bucket.bytes)}"
        )


def _allow_public(client: AdminClient, arguments: argparse.Namespace) -> None:
    import msgspec

    from octad.coordinator.schema.admin_messages import PublicDocument, PublicRequest

    path = _path_of(arguments.bucket, "public")
    bucket = client.ask("PUT", path, PublicDocument, PublicRequest(not arguments.off))
    print(msgspec.json.encode(bucket).decode() if arguments.json else _told(bucket))


def _told(bucket: PublicDocument) -> str:
    from octad.client.s3.access_lists import ANONYMOUS, READ, grants_of, permits

    name = bucket.name
    if not bucket.allowed:
        return f"{name}: nothing of it is public, whatever its access lists say"
    everybody = permits(grants_of(bucket.acl, ""), ANONYMOUS, READ)
    listed = "may list it" if everybody else "may not list it"
    return (
        f"{name}: its access lists count from now on\n"
        "  everybody may read, without a key, the objects that are public-read:\n"
        f"    aws s3 cp FILE s3://{name}/KEY --acl public-read\n"
        f"    aws s3api put-object-acl --bucket {name} --key KEY --acl public-read\n"
        f"  everybody {listed}; that is its own list:\n"
        f"    aws s3api put-bucket-acl --bucket {name} --acl public-read   (or private)\n"
        f"  to close it again: octad bucket public {name} --off"
    )


def _path_of(bucket: str, setting: str) -> str:
    from urllib.parse import quote

    from octad.coordinator.schema.admin_messages import ADMIN_BUCKETS_PATH

    return f"{ADMIN_BUCKETS_PATH}/{quote(bucket, safe='')}/{setting}"


def _list(client: AdminClient, *, as_json: bool) -> None:
    import msgspec

    from octad.client.cli.format_units import shown_bytes
    from octad.client.cli.status_table import columns
    from octad.coordinator.schema.admin_messages import ADMIN_BUCKETS_PATH, BucketsDocument

    document = client.ask("GET", ADMIN_BUCKETS_PATH, BucketsDocument)
    if as_json:
        print(msgspec.json.encode(document).decode())
        return
    rows = [
        (
            bucket.name,
            bucket.owner,
            str(bucket.pool),
            str(bucket.objects),
            shown_bytes(bucket.bytes),
            "-" if bucket.quota_bytes is None else shown_bytes(bucket.quota_bytes),
        )
        for bucket in document.buckets
    ]
    print("\n".join(columns([("BUCKET", "OWNER", "POOL", "OBJECTS", "BYTES", "QUOTA"), *rows])))
