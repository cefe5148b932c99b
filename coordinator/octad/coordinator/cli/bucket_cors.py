"""`octad bucket cors get|set|rm`: which web pages may ask for a bucket's objects."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from octad.client.cli.access.connection import add_connection_options
from octad.client.runtime.command import EXIT_USAGE, CommandError

if TYPE_CHECKING:
    from octad.client.calls.caller import Caller

EXIT_NO_RULES = 4
_STANDARD = "-"
_BYTES_MAX = 64 * 1024  # AWS's bound.


def add_cors_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=("get", "set", "rm"),
        help="print its rules, give it others in their place, or take them away",
    )
    parser.add_argument("bucket", metavar="NAME", help="the bucket")
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help=f"for set: JSON or XML, as AWS's tools have it; {_STANDARD}: standard input",
    )
    add_connection_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run_cors(arguments: argparse.Namespace) -> int:
    from octad.client.cli.access.connection import connected_async
    from octad.client.cli.access.places import S3Place
    from octad.client.cli.access.refusals import refusals_of
    from octad.client.errors import Refused
    from octad.client.http.blocking import BlockingRuntime, drive

    if (arguments.file is None) == (arguments.action == "set"):
        raise CommandError(
            "set needs a FILE, and nothing else takes one",
            "see: octad bucket cors --help",
            EXIT_USAGE,
        )
    bucket = arguments.bucket.removeprefix("s3://").rstrip("/")
    body = _document(arguments.file) if arguments.action == "set" else b""
    with refusals_of(S3Place(bucket, "")):
        client = connected_async(arguments, BlockingRuntime())
        try:
            said = _asked(client.caller, arguments.action, bucket, body)
        except Refused as error:
            if error.code != "NoSuchCORSConfiguration":
                raise
            raise CommandError(
                f"bucket {bucket} has no cross-origin rules",
                f"give it some: octad bucket cors set {bucket} FILE",
                EXIT_NO_RULES,
            ) from error
        finally:
            drive(client.close())
    as_json = arguments.json or arguments.action == "get"
    print(json.dumps(said, indent=None if arguments.json else 2) if as_json else said["done"])
    return 0


def _asked(caller: Caller, action: str, bucket: str, body: bytes) -> dict[str, object]:
    from octad.client.calls.refusals import document_of
    from octad.client.calls.requests import Request, new_invocation
    from octad.client.http.blocking import drive
    from octad.client.s3.cors_documents import cors_json

    if action == "get":
        request = Request("GET", bucket, query="cors=")
        return cors_json(document_of(drive(caller.whole(request)).body, request))
    drive(
        caller.whole(
            Request(
                "PUT" if action == "set" else "DELETE",
                bucket,
                query="cors=",
                body=body,
                checksum=action == "set",
                invocation=new_invocation(),
            )
        )
    )
    done = "has these rules now" if action == "set" else "has no cross-origin rules any more"
    return {"bucket": bucket, "done": f"bucket {bucket} {done}"}


def _document(file: str) -> bytes:
    """What S3 is sent; raises CommandError."""
    from octad.client.s3.cors_documents import BadCorsDocument, cors_xml

    try:
        if file == _STANDARD:
            document = sys.stdin.buffer.read(_BYTES_MAX + 1)
        else:
            with Path(file).open("rb") as stream:
                document = stream.read(_BYTES_MAX + 1)
    except OSError as error:
        raise CommandError(
            f"cannot read {file} ({error.strerror})", "name a file that can be read", EXIT_USAGE
        ) from error
    try:
        if len(document) > _BYTES_MAX:
            raise BadCorsDocument(f"it has more than {_BYTES_MAX // 1024} KiB")
        return cors_xml(document)
    except BadCorsDocument as error:
        raise CommandError(
            f"{file} has no cross-origin rules: {error}",
            "write it as octad bucket cors get prints those of another bucket",
            EXIT_USAGE,
        ) from error
