"""The documents of a bucket's settings: read without trust, and written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from octad.client.s3.errors import S3Error
from octad.coordinator.schema.bucket_settings import (
    OWNERSHIPS,
    CorsRule,
    PublicAccessBlock,
)
from octad.storage_node.s3.protocol.xml.documents import DECLARATION, NAMESPACE, escape
from octad.storage_node.s3.protocol.xml.trees import Element, read_tree

ID_CHARACTERS_MAX: Final = 255
_MAX_AGE_DIGITS: Final = 10

_BLOCK: Final = {
    "BlockPublicAcls": "block_acls",
    "IgnorePublicAcls": "ignore_acls",
    "BlockPublicPolicy": "block_policy",
    "RestrictPublicBuckets": "restrict_buckets",
}
_RULE: Final = {
    "AllowedOrigin": "origins",
    "AllowedMethod": "methods",
    "AllowedHeader": "headers",
    "ExposeHeader": "exposed",
}


def ownership_controls_xml(ownership: str) -> bytes:
    """`OwnershipControls`."""
    rule = f"<Rule><ObjectOwnership>{escape(ownership)}</ObjectOwnership></Rule>"
    return _document("OwnershipControls", rule)


def read_ownership_controls(body: bytes) -> str:
    """Which of S3's ownerships it is."""
    controls = read_tree(body, "OwnershipControls")
    controls.allow(("Rule",))
    rule = controls.only("Rule")
    rule.allow(("ObjectOwnership",))
    ownership = rule.word("ObjectOwnership")
    if ownership not in OWNERSHIPS:
        raise S3Error("MalformedXML")
    return ownership


def public_access_block_xml(block: PublicAccessBlock) -> bytes:
    """`PublicAccessBlockConfiguration`."""
    return _document(
        "PublicAccessBlockConfiguration",
        "".join(
            f"<{name}>{_boolean(getattr(block, field))}</{name}>" for name, field in _BLOCK.items()
        ),
    )


def read_public_access_block(body: bytes) -> PublicAccessBlock:
    """Absent elements mean not blocked, as on S3."""
    document = read_tree(body, "PublicAccessBlockConfiguration")
    document.allow(_BLOCK)
    said = {field: document.word(name, "false") for name, field in _BLOCK.items()}
    if not set(said.values()) <= {"true", "false", "TRUE", "FALSE"}:
        raise S3Error("MalformedXML")
    return PublicAccessBlock(**{field: word.lower() == "true" for field, word in said.items()})


def policy_status_xml(*, is_public: bool) -> bytes:
    """`PolicyStatus`."""
    return _document("PolicyStatus", f"<IsPublic>{_boolean(is_public)}</IsPublic>")


def cors_configuration_xml(rules: Sequence[CorsRule]) -> bytes:
    """`CORSConfiguration`."""
    return _document("CORSConfiguration", "".join(map(_rule_xml, rules)))


def _rule_xml(rule: CorsRule) -> str:
    named = f"<ID>{escape(rule.id)}</ID>" if rule.id else ""
    lists = "".join(
        f"<{name}>{escape(word)}</{name}>"
        for name, field in _RULE.items()
        for word in getattr(rule, field)
    )
    age = "" if rule.max_age_s is None else f"<MaxAgeSeconds>{rule.max_age_s}</MaxAgeSeconds>"
    return f"<CORSRule>{named}{lists}{age}</CORSRule>"


def read_cors_configuration(body: bytes) -> tuple[CorsRule, ...]:
    """The rules in document order."""
    document = read_tree(body, "CORSConfiguration")
    document.allow(("CORSRule",))
    return tuple(map(_read_rule, document.elements))


def _read_rule(rule: Element) -> CorsRule:
    rule.allow(("ID", "MaxAgeSeconds", *_RULE))
    lists = {
        field: tuple(element.text.strip() for element in rule.all(name))
        for name, field in _RULE.items()
    }
    age, named = rule.word("MaxAgeSeconds", ""), rule.word("ID", "")
    if age and not (age.isascii() and age.isdecimal() and len(age) <= _MAX_AGE_DIGITS):
        raise S3Error("MalformedXML")
    if not lists["origins"] or not lists["methods"] or len(named) > ID_CHARACTERS_MAX:
        raise S3Error("MalformedXML")
    return CorsRule(
        lists["origins"],
        lists["methods"],
        lists["headers"],
        lists["exposed"],
        int(age) if age else None,
        named,
    )


def _document(root: str, content: str) -> bytes:
    return f'{DECLARATION}<{root} xmlns="{NAMESPACE}">{content}</{root}>'.encode()


def _boolean(value: bool) -> str:
    return "true" if value else "false"
