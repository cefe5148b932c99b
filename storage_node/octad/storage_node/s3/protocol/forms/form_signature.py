"""Who signed a form's policy: signature version 4 in fields, over the policy as it is sent."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import Final, NoReturn

from octad.client.s3.errors import S3Error
from octad.client.s3.http_dates import parse_amz_date
from octad.client.s3.sigv4 import (
    ALGORITHM,
    SERVICE,
    TERMINATOR,
    UNSIGNED_PAYLOAD,
    PayloadMode,
    SignatureSeed,
    signature_of,
    signing_key,
)
from octad.client.s3.sigv4_verify import CLOCK_SKEW_S_MAX, Authenticated
from octad.sharding.limits import PRESIGN_EXPIRY_S_MAX
from octad.sharding.map.pool_names import POOL_NAME_PREFIX
from octad.storage_node.s3.protocol.forms.post_policy import POLICY_FIELD, SIGNATURE_FIELD

_FIELDS: Final = ("x-amz-algorithm", "x-amz-credential", "x-amz-date", SIGNATURE_FIELD)
_SIGV2_FIELDS: Final = ("awsaccesskeyid", "signature")


def is_of_nobody(fields: Mapping[str, str]) -> bool:
    """Whether a form shows no credentials at all, good or bad."""
    shown = (*_FIELDS, *_SIGV2_FIELDS, POLICY_FIELD, "x-amz-security-token")
    return not any(name in fields for name in shown)


def verify_form(
    fields: Mapping[str, str],
    *,
    now_s: float,
    region: str,
    secret_of: Callable[[str], str | None],
) -> Authenticated:
    """The signer of the form's policy; raises S3Error unless its signature is valid.

    A key of a day is good for seven, as for presigned URLs. What the policy allows is another
    question.
    """
    if fields.get("x-amz-security-token"):
        raise S3Error("InvalidToken")
    if not any(name in fields for name in _FIELDS):
        if any(name in fields for name in _SIGV2_FIELDS):
            raise S3Error(
                "InvalidRequest",
                "The authorization mechanism you have provided is not supported. Please use "
                f"{ALGORITHM}.",
            )
        raise S3Error("AccessDenied")
    policy = fields.get(POLICY_FIELD, "")
    if not policy or not all(fields.get(name) for name in _FIELDS):
        raise S3Error(
            "InvalidArgument",
            "Bucket POST must contain the fields policy, x-amz-algorithm, x-amz-credential, "
            "x-amz-date and x-amz-signature.",
        )
    if fields["x-amz-algorithm"] != ALGORITHM:
        _refuse(f"x-amz-algorithm only supports {ALGORITHM}.")
    parts = fields["x-amz-credential"].rsplit("/", 4)
    timestamp = fields["x-amz-date"]
    second = parse_amz_date(timestamp)
    if second is None or len(parts) != 5 or not parts[0] or parts[1] != timestamp[:8]:
        _refuse("x-amz-credential is KEY/DATE/REGION/s3/aws4_request, and x-amz-date of that date.")
    access_key, date, asked, service, terminator = parts
    if service != SERVICE or terminator != TERMINATOR:
        _refuse("x-amz-credential is for another service.")
    if asked != region and not asked.startswith(POOL_NAME_PREFIX):
        _refuse(f"the region '{asked}' is wrong; expecting '{region}'", region)
    if not second - CLOCK_SKEW_S_MAX <= now_s <= second + PRESIGN_EXPIRY_S_MAX:
        raise S3Error("AccessDenied", "Invalid according to Policy: x-amz-date is too far away.")
    secret = secret_of(access_key)
    if secret is None:
        raise S3Error("InvalidAccessKeyId", fields={"AWSAccessKeyId": access_key})
    expected = signature_of(signing_key(secret, date, asked), policy)
    signature = fields[SIGNATURE_FIELD]
    if not (signature.isascii() and hmac.compare_digest(expected, signature)):
        raise S3Error(
            "SignatureDoesNotMatch",
            fields={
                "AWSAccessKeyId": access_key,
                "StringToSign": policy,
                "SignatureProvided": signature,
            },
        )
    seed = SignatureSeed("", b"", "", "")  # No chain of chunks begins here.
    return Authenticated(access_key, PayloadMode.UNSIGNED, UNSIGNED_PAYLOAD, seed, presigned=False)


def _refuse(what: str, region: str = "") -> NoReturn:
    fields = {"Region": region} if region else {}
    raise S3Error("AuthorizationQueryParametersError", what, fields=fields)
