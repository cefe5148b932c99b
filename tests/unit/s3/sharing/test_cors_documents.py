"""Cross-origin rules as people write them become what S3 takes, and come back the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.calls.documents import tree_of
from octad.client.s3.cors_documents import BadCorsDocument, cors_json, cors_xml
from octad.storage_node.s3.protocol.xml.settings import (
    cors_configuration_xml,
    read_cors_configuration,
)

WORDS = st.text("abcXYZ:/*.-<&\"'", min_size=1, max_size=8)
LISTS = st.lists(WORDS, min_size=1, max_size=3)
RULE = st.fixed_dictionaries(
    {"AllowedMethods": LISTS, "AllowedOrigins": LISTS},
    optional={
        "AllowedHeaders": LISTS,
        "ExposeHeaders": LISTS,
        "MaxAgeSeconds": st.integers(0, 86400),
        "ID": WORDS,
    },
)
GOOD = {"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}


@given(st.lists(RULE, min_size=1, max_size=3), st.booleans())
def test_what_a_node_reads_and_answers_is_what_was_written(
    rules: list[dict[str, object]], bare: bool
) -> None:
    written = json.dumps(rules if bare else {"CORSRules": rules}).encode()
    answered = tree_of(cors_configuration_xml(read_cors_configuration(cors_xml(written))))
    assert answered is not None
    assert cors_json(answered) == {"CORSRules": rules}


def test_xml_is_sent_as_it_is() -> None:
    document = b" <CORSConfiguration><CORSRule/></CORSConfiguration>"
    assert cors_xml(document) == document


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("no rules", "neither XML nor JSON"),
        ({}, "not where they should be"),
        ({"CORSRules": []}, "not where they should be"),
        ({"CORSRules": [GOOD], "more": 1}, "not where they should be"),
        ([GOOD, 1], "rule 2 is no object"),
        ([GOOD, GOOD | {"AllowedHeader": ["*"]}], "rule 2 has 'AllowedHeader'"),
        ([{"AllowedMethods": ["GET"]}], "rule 1 lacks AllowedOrigins"),
        ([GOOD | {"AllowedOrigins": "*"}], "AllowedOrigins is no list"),
        ([GOOD | {"ExposeHeaders": [1]}], "ExposeHeaders is no text"),
        ([GOOD | {"MaxAgeSeconds": "1"}], "no number of seconds"),
        ([GOOD | {"MaxAgeSeconds": True}], "no number of seconds"),
    ],
)
def test_what_is_wrong_with_a_document_is_said(document: object, why: str) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    with pytest.raises(BadCorsDocument, match=why):
        cors_xml(text.encode())
