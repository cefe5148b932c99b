"""What a request says of its signature: read from where it stands, and not verified yet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NoReturn

import msgspec

from octad.client.s3.errors import S3Error
from octad.client.s3.sigv4 import ALGORITHM, TERMINATOR

_PARSED_MAX: Final = 1024
_DATE: Final = re.compile("[0-9]{8}")
_HEADER_MALFORMED: Final = "AuthorizationHeaderMalformed"
QUERY_MALFORMED: Final = "AuthorizationQueryParametersError"


class SigV4Error(S3Error):
    """The request is not proved to come from whom it says."""


class Claim(msgspec.Struct, frozen=True):
    """A request's claims about its signature, not verified yet."""

    access_key: str
    date: str
    region: str
    service: str
    terminator: str
    names: tuple[str, ...]
    names_set: frozenset[str]
    scope: str


def read_authorization(authorization: str) -> tuple[Claim, str]:
    """The claim and the signature of an `Authorization` header."""
    head, found, signature = authorization.rpartition("Signature=")
    if found and "," not in signature:
        return _claim_of(head), signature.strip()
    fields = _authorization_fields(authorization, ("Credential", "SignedHeaders", "Signature"))
    return _claim_in(fields), fields["Signature"]


@lru_cache(_PARSED_MAX)
def _claim_of(head: str) -> Claim:
    """The claim in a header up to its signature: the same all day for one client and operation."""
    return _claim_in(_authorization_fields(head, ("Credential", "SignedHeaders")))


def _claim_in(fields: Mapping[str, str]) -> Claim:
    return parse_credential(fields["Credential"], fields["SignedHeaders"], False)


def _authorization_fields(text: str, required: tuple[str, ...]) -> dict[str, str]:
    scheme, _, rest = text.partition(" ")
    if scheme != ALGORITHM:
        _refuse_scheme(scheme)
    fields: dict[str, str] = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        fields[name] = value
    if not all(fields.get(name) for name in required):
        raise SigV4Error(
            _HEADER_MALFORMED,
            "The authorization header is malformed; the authorization header requires three "
            "components: Credential, SignedHeaders, and Signature.",
        )
    return fields


def _refuse_scheme(scheme: str) -> NoReturn:
    if scheme.startswith("AWS4-ECDSA"):
        raise SigV4Error("NotImplemented", f"{scheme} is not implemented. Please use {ALGORITHM}.")
    if scheme.startswith("AWS"):
        raise SigV4Error(
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. Please use "
            f"{ALGORITHM}.",
        )
    raise SigV4Error(
        "InvalidArgument",
        "Unsupported Authorization Type",
        fields={"ArgumentName": "Authorization"},
    )


def parse_credential(credential: str, signed_headers: str, presigned: bool) -> Claim:
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or not parts[0]:
        raise malformed(
            'the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/'
            f'{TERMINATOR}".',
            presigned,
        )
    access_key, date, region, service, terminator = parts
    if not _DATE.fullmatch(date):
        raise malformed(
            f'incorrect date format "{date}". This date in the credential must be in the format '
            '"yyyyMMdd".',
            presigned,
        )
    names = tuple(signed_headers.split(";"))
    scope = "/".join(parts[1:])
    return Claim(access_key, date, region, service, terminator, names, frozenset(names), scope)


def malformed(what: str, presigned: bool, region: str = "") -> SigV4Error:
    fields = {"Region": region} if region else {}
    if presigned:
        message = f"Error parsing the X-Amz-Credential parameter; {what}"
        return SigV4Error(QUERY_MALFORMED, message, fields=fields)
    message = f"The authorization header is malformed; {what}"
    return SigV4Error(_HEADER_MALFORMED, message, fields=fields)
