"""Cross-origin rules of a bucket: they tell browsers what pages of other origins may do.

The first rule that fits decides. They are for browsers alone: a rule opens nothing to anybody whom
the bucket is not open to anyway.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from octad.client.s3.errors import S3Error
from octad.coordinator.schema.bucket_settings import CorsRule

METHODS: Final = ("GET", "PUT", "HEAD", "POST", "DELETE")
RULES_MAX: Final = 100
HEADERS_ASKED_MAX: Final = 100  # Per preflight, which anyone may send: each is compared with all.
_ANY: Final = "*"
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'+.^_`|~-]+")
# Answers differ by these, so a cache must not give one to a page of another origin.
_VARY: Final = "Vary: Origin, Access-Control-Request-Headers, Access-Control-Request-Method\r\n"


def cors_lines(rules: Sequence[CorsRule], method: str, headers: Mapping[str, str]) -> str:
    """The lines added to an answer's head, also of a refusal; "" without an Origin.

    `method` and `headers` are those of the request.
    """
    origin = headers.get("origin")
    if not rules or origin is None:
        return ""
    rule = _fitting(rules, origin, headers.get("access-control-request-method", method), ())
    return _VARY if rule is None else _lines(rule, origin)


def preflight_lines(rules: Sequence[CorsRule], path: str, headers: Mapping[str, str]) -> str:
    """The head of the answer to a preflight request; raises S3's refusal."""
    origin = headers.get("origin")
    if origin is None:
        raise S3Error("BadRequest", "Insufficient information. Origin request header needed.")
    method = headers.get("access-control-request-method")
    if method not in METHODS:
        raise S3Error("BadRequest", f"Invalid Access-Control-Request-Method: {method or 'null'}")
    asked = headers.get("access-control-request-headers", "")
    wanted = tuple(name for part in asked.split(",") if (name := part.strip().lower()))
    if len(wanted) > HEADERS_ASKED_MAX:
        raise S3Error("BadRequest", "Access-Control-Request-Headers names too many headers.")
    rule = _fitting(rules, origin, method, wanted)
    if rule is None:
        is_object = "/" in path.strip("/")
        fields = {"Method": method, "ResourceType": "OBJECT" if is_object else "BUCKET"}
        message = None if not rules else "CORSResponse: This CORS request is not allowed."
        raise S3Error("AccessForbidden", message, fields=fields)
    allowed = f"Access-Control-Allow-Headers: {', '.join(wanted)}\r\n" if wanted else ""
    return _lines(rule, origin) + allowed


def check_rules(rules: Sequence[CorsRule]) -> None:
    """Raises S3's refusal unless a bucket may have these."""
    if not rules:
        raise S3Error("MalformedXML")
    if len(rules) > RULES_MAX:
        raise S3Error(
            "InvalidRequest",
            f"The number of CORS rules should not exceed allowed limit of {RULES_MAX} rules.",
        )
    for rule in rules:
        for method in rule.methods:
            if method not in METHODS:
                raise S3Error(
                    "InvalidRequest",
                    f"Found unsupported HTTP method in CORS config. Unsupported method is {method}",
                )
        for name, patterns in (("AllowedOrigin", rule.origins), ("AllowedHeader", rule.headers)):
            for pattern in patterns:
                if pattern.count(_ANY) > 1:
                    raise S3Error(
                        "InvalidRequest", f'{name} "{pattern}" can not have more than one wildcard.'
                    )
        for header in rule.exposed:
            if _HEADER_NAME.fullmatch(header) is None:  # It could start a header of its own.
                raise S3Error("InvalidRequest", f"ExposeHeader {header!r} is no header's name.")


def _fitting(
    rules: Sequence[CorsRule], origin: str, method: str, wanted: Sequence[str]
) -> CorsRule | None:
    for rule in rules:
        if (
            method in rule.methods
            and any(_fits(pattern, origin) for pattern in rule.origins)
            and (not wanted or _allows(rule, wanted))
        ):
            return rule
    return None


def _allows(rule: CorsRule, wanted: Sequence[str]) -> bool:
    """Whether a page may send headers of these lower-case names."""
    allowed = {pattern.lower() for pattern in rule.headers}
    loose = [pattern for pattern in allowed if _ANY in pattern]
    return all(name in allowed or any(_fits(p, name) for p in loose) for name in wanted)


def _fits(pattern: str, text: str) -> bool:
    before, any_, after = pattern.partition(_ANY)
    if not any_:
        return pattern == text
    return (
        len(text) >= len(before) + len(after) and text.startswith(before) and text.endswith(after)
    )


def _lines(rule: CorsRule, origin: str) -> str:
    if _ANY in rule.origins:
        allowed = f"Access-Control-Allow-Origin: {_ANY}\r\n"
    else:
        allowed = (
            f"Access-Control-Allow-Origin: {origin}\r\nAccess-Control-Allow-Credentials: true\r\n"
        )
    lines = f"{allowed}Access-Control-Allow-Methods: {', '.join(rule.methods)}\r\n"
    if rule.exposed:
        lines += f"Access-Control-Expose-Headers: {', '.join(rule.exposed)}\r\n"
    if rule.max_age_s is not None:
        lines += f"Access-Control-Max-Age: {rule.max_age_s}\r\n"
    return lines + _VARY
