"""The policy of a form: a document of conditions by its signer, each of which has to hold.

Every field of the form has to be named by a condition, or somebody else could have added it; but
for the signature, the policy itself, and those that S3 passes over (`x-ignore-`). The bucket is one
of the fields, whether the form has it or not: a policy that names none would be good in each.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NoReturn

import msgspec

from octad.client.s3.errors import S3Error
from octad.sharding.limits import PUT_BYTES_MAX

SIGNATURE_FIELD: Final = "x-amz-signature"
POLICY_FIELD: Final = "policy"
BUCKET_FIELD: Final = "bucket"
IGNORED_PREFIX: Final = "x-ignore-"
_FREE: Final = (SIGNATURE_FIELD, POLICY_FIELD)
_NUMBER_DIGITS_MAX: Final = 15
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", re.ASCII)


class _Condition(msgspec.Struct, frozen=True):
    field: str
    value: str
    starts_with: bool


class PostPolicy(msgspec.Struct, frozen=True):
    """A policy that was understood."""

    expires_s: float
    conditions: tuple[_Condition, ...]
    size_min: int
    size_max: int

    def check(self, fields: Mapping[str, str], now_s: float) -> None:
        """Raises AccessDenied unless it allows these fields, the bucket among them, now."""
        if now_s >= self.expires_s:
            _deny("Policy expired.")
        for condition in self.conditions:
            if not _holds(condition, fields.get(condition.field, "")):
                said = "starts-with" if condition.starts_with else "eq"
                _deny(
                    "Policy Condition failed: "
                    f'["{said}", "${condition.field}", "{condition.value}"]'
                )
        named = {condition.field for condition in self.conditions}
        extra = [
            name
            for name in fields
            if name not in named and name not in _FREE and not name.startswith(IGNORED_PREFIX)
        ]
        if extra:
            _deny(f"Extra input fields: {', '.join(extra)}")


def read_policy(encoded: str) -> PostPolicy:
    """The policy as the form has it, in base64; raises InvalidPolicyDocument."""
    try:
        document = msgspec.json.decode(b64decode(encoded, validate=True))
    except (ValueError, msgspec.DecodeError, RecursionError):
        _invalid("Invalid JSON.")
    if not isinstance(document, dict) or not document.keys() <= {"expiration", "conditions"}:
        _invalid("Unexpected element.")
    expiration, said = document.get("expiration"), document.get("conditions")
    if not isinstance(expiration, str) or not isinstance(said, list) or not said:
        _invalid("Policy missing expiration or conditions.")
    conditions: list[_Condition] = []
    size_min, size_max = 0, PUT_BYTES_MAX
    for condition in said:
        match condition:
            case dict() if len(condition) == 1:
                ((name, value),) = condition.items()
                conditions.append(_Condition(name.lower(), _word(value), False))
            case [str(kind), low, high] if kind.lower() == "content-length-range":
                size_min, size_max = max(size_min, _size(low)), min(size_max, _size(high))
            case [str(kind), str(name), value] if kind.lower() in ("eq", "starts-with"):
                if not name.startswith("$"):
                    _invalid("Invalid condition: a field's name begins with $.")
                starts_with = kind.lower() == "starts-with"
                conditions.append(_Condition(name[1:].lower(), _word(value), starts_with))
            case _:
                _invalid("Invalid condition.")
    return PostPolicy(_time(expiration), tuple(conditions), size_min, size_max)


def _holds(condition: _Condition, value: str) -> bool:
    if not condition.starts_with:
        return value == condition.value
    if condition.field == "content-type":  # May be a list, all of which has to begin so.
        return all(one.strip().startswith(condition.value) for one in value.split(","))
    return value.startswith(condition.value)


def _word(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else _invalid("Invalid condition: not a string.")


def _size(value: object) -> int:
    text = _word(value)
    if not (text.isascii() and text.isdecimal() and len(text) <= _NUMBER_DIGITS_MAX):
        _invalid("Invalid content-length-range.")
    return int(text)


def _time(text: str) -> float:
    try:
        if _DATE.fullmatch(text) is None:
            raise ValueError(text)
        whole = text.partition(".")[0].rstrip("Z")
        return datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()
    except ValueError:
        _invalid(f"Invalid 'expiration' value: '{text}'")


def _invalid(what: str) -> NoReturn:
    raise S3Error("InvalidPolicyDocument", f"Invalid Policy: {what}")


def _deny(what: str) -> NoReturn:
    raise S3Error("AccessDenied", f"Invalid according to Policy: {what}")
