"""Stored secrets open with the cluster's key, for their own access key, and not otherwise."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.client.cluster.join_token import JoinToken
from octad.coordinator.schema.access_keys import (
    BadCredentials,
    access_key_record,
    check_credentials,
    secret_of,
)
from octad.coordinator.schema.records import AccessKeyRecord
from octad.coordinator.schema.sealing import DoesNotOpen, seal, unseal

TOKEN = JoinToken("1a2b3c4d", bytes(range(32)))
NONCE = bytes(range(12))


def record() -> AccessKeyRecord:
    return access_key_record(TOKEN, "octad", "octad-secret", "root", NONCE)


def test_the_record_is_byte_exact() -> None:
    assert msgspec.json.encode(record()) == (
        b'{"access_key":"octad",'
        b'"secret_encrypted":"AAECAwQFBgcICQoLe+5LWCVm2r1TmSVveVMQkr6nIMKx0z5PeHxorQ==",'
        b'"owner":"root","disabled":false,"admin":false}'
    )


@given(secret=st.text(max_size=200), nonce=st.binary(min_size=12, max_size=12))
def test_a_secret_comes_back_as_it_was(secret: str, nonce: bytes) -> None:
    assert secret_of(TOKEN, access_key_record(TOKEN, "octad", secret, "root", nonce)) == secret


def test_another_cluster_secret_does_not_open_it() -> None:
    with pytest.raises(DoesNotOpen):
        secret_of(JoinToken("1a2b3c4d", bytes(32)), record())


def test_under_another_name_it_does_not_open() -> None:
    with pytest.raises(DoesNotOpen):
        secret_of(TOKEN, msgspec.structs.replace(record(), access_key="admin"))


@given(st.integers(0, 1000), st.integers(1, 255))
def test_one_changed_byte_does_not_open(position: int, difference: int) -> None:
    sealed = bytearray(base64.b64decode(seal(b"k" * 32, b"secret", b"name", NONCE)))
    sealed[position % len(sealed)] ^= difference
    with pytest.raises(DoesNotOpen):
        unseal(b"k" * 32, base64.b64encode(sealed).decode(), b"name")


@given(st.text(max_size=60))
def test_any_other_text_does_not_open(text: str) -> None:
    with pytest.raises(DoesNotOpen):
        unseal(b"k" * 32, text, b"name")


@pytest.mark.parametrize(
    ("access_key", "secret"),
    [("ab", "longenough"), ("a/b", "longenough"), ("a b", "longenough"), ("octad", "short"),
     ("octad", "with space"), ("octad", "ünicode-secret"), ("x" * 129, "longenough")],
)  # fmt: skip
def test_what_s3_clients_cannot_sign_with_is_refused(access_key: str, secret: str) -> None:
    with pytest.raises(BadCredentials):
        check_credentials(access_key, secret)


def test_usual_keys_pass() -> None:
    check_credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    check_credentials("octad", "octadsecret")
