"""The XML that clients send: read when it is what S3 takes, refused when it is anything else."""

from __future__ import annotations

from functools import cache

import botocore.serialize
import botocore.session
import pytest
from botocore.model import ServiceModel
from hypothesis import given, settings
from hypothesis import strategies as st

from octad.client.s3.errors import S3Error
from octad.sharding.limits import PART_NUMBER_MAX, XML_BODY_BYTES_MAX
from octad.storage_node.s3.protocol.xml.requests import (
    DELETE_KEYS_MAX,
    DeleteRequest,
    DeleteTarget,
    RequestedPart,
    read_complete_multipart_upload,
    read_create_bucket_configuration,
    read_delete,
    read_tagging,
)

READERS = (
    read_complete_multipart_upload,
    read_delete,
    read_create_bucket_configuration,
    read_tagging,
)
DELETE_A = b"<Delete><Object><Key>a</Key></Object></Delete>"


@cache
def s3() -> ServiceModel:
    return botocore.session.get_session().get_service_model("s3")


def serialized(operation: str, **parameters: object) -> bytes:
    """The body that botocore sends."""
    serializer = botocore.serialize.create_serializer("rest-xml")
    body = serializer.serialize_to_request(parameters, s3().operation_model(operation))["body"]
    assert isinstance(body, bytes)
    return body


def code_of(reader: object, body: bytes) -> str:
    assert callable(reader)
    with pytest.raises(S3Error) as caught:
        reader(body)
    assert caught.value.http_status == 400
    return caught.value.code


KEYS = st.text(
    st.characters(
        codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"
    ),
    min_size=1,
    max_size=20,
)


@settings(deadline=None)
@given(st.lists(KEYS, min_size=1, max_size=10), st.booleans())
def test_a_delete_names_its_keys_exactly(keys: list[str], quiet: bool) -> None:
    body = serialized(
        "DeleteObjects",
        Bucket="b",
        Delete={"Objects": [{"Key": key} for key in keys], "Quiet": quiet},
    )
    expected = DeleteRequest(tuple(DeleteTarget(key.encode()) for key in keys), quiet)
    assert read_delete(body) == expected


def test_a_delete_keeps_the_conditions_on_each_object() -> None:
    body = (
        b"<Delete><Object><Key> a </Key><VersionId>v</VersionId><ETag>&quot;e&quot;</ETag>"
        b"<Size>3</Size><LastModifiedTime>now</LastModifiedTime></Object></Delete>"
    )
    assert read_delete(body).targets == (DeleteTarget(b" a ", "v", "e", "now", "3"),)
    assert not read_delete(body).quiet


def test_the_parts_of_a_completed_upload() -> None:
    body = serialized(
        "CompleteMultipartUpload",
        Bucket="b",
        Key="k",
        UploadId="u",
        MultipartUpload={
            "Parts": [
                {"PartNumber": 1, "ETag": '"one"', "ChecksumCRC32": "AAAAAA=="},
                {"PartNumber": 7, "ETag": "two"},
            ]
        },
    )
    assert read_complete_multipart_upload(body) == (
        RequestedPart(1, "one", {"CRC32": "AAAAAA=="}),
        RequestedPart(7, "two"),
    )


def test_nothing_at_all_completes_no_upload() -> None:
    with pytest.raises(S3Error, match="You must specify at least one part") as refused:
        read_complete_multipart_upload(b"")
    assert refused.value.code == "InvalidRequest"


@pytest.mark.parametrize("numbers", [(2, 1), (1, 1), (1, 3, 2)])
def test_parts_that_do_not_ascend_are_in_the_wrong_order(numbers: tuple[int, ...]) -> None:
    parts = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>e</ETag></Part>" for n in numbers)
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    assert code_of(read_complete_multipart_upload, body) == "InvalidPartOrder"


def test_the_location_of_a_new_bucket() -> None:
    body = serialized(
        "CreateBucket",
        Bucket="b",
        CreateBucketConfiguration={"LocationConstraint": "eu-west-1"},
    )
    assert read_create_bucket_configuration(body) == "eu-west-1"
    assert read_create_bucket_configuration(b"") == ""
    assert read_create_bucket_configuration(b"<CreateBucketConfiguration/>") == ""


def test_the_tags_of_an_object() -> None:
    tags = [{"Key": " a&b", "Value": ""}, {"Key": " a&b", "Value": "ü"}]
    body = serialized("PutObjectTagging", Bucket="b", Key="k", Tagging={"TagSet": tags})
    assert read_tagging(body) == [(" a&b", ""), (" a&b", "ü")]
    assert read_tagging(b"<Tagging><TagSet/></Tagging>") == []


@pytest.mark.parametrize(
    "inside",
    [
        "",
        "<Tag><Key>a</Key><Value>b</Value></Tag>",
        "<TagSet/><TagSet/>",
        "<TagSet><TagSet/></TagSet>",
        "<TagSet><Key>a</Key></TagSet>",
        "<TagSet><Tag><Key>a</Key></Tag></TagSet>",
        "<TagSet><Tag><Value>a</Value></Tag></TagSet>",
        "<TagSet><Tag><Key>a</Key><Key>b</Key><Value>c</Value></Tag></TagSet>",
        "<TagSet><Tag><Key>a</Key><Value>b</Value><More>c</More></Tag></TagSet>",
        "<TagSet><Tag><Tag><Key>a</Key><Value>b</Value></Tag></Tag></TagSet>",
        "<TagSet>text</TagSet>",
        "<TagSet/><Tag><Key>a</Key><Value>b</Value></Tag>",
    ],
)
def test_tags_have_one_shape(inside: str) -> None:
    assert code_of(read_tagging, f"<Tagging>{inside}</Tagging>".encode()) == "MalformedXML"


@pytest.mark.parametrize(
    "body",
    [
        b'<?xml version="1.0" encoding="UTF-8"?>\n' + DELETE_A,
        b"\xef\xbb\xbf" + DELETE_A,
        b'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">' + DELETE_A[8:],
        b'<d:Delete xmlns:d="urn:x"><d:Object><d:Key>a</d:Key></d:Object></d:Delete>',
        b"<Delete>\n  <!-- one -->\n <Object>\n<Key><![CDATA[a]]></Key>\n</Object>\n</Delete>\n",
    ],
)
def test_namespace_space_and_comments_do_not_matter(body: bytes) -> None:
    assert read_delete(body).targets == (DeleteTarget(b"a"),)


BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "body",
    [
        b"not XML",
        b"<",
        b"<Other/>",
        b"<a>" * 100_000,
        b"<Delete><Delete></Delete></Delete>",
        b"<!DOCTYPE Delete>" + DELETE_A,
        BOMB + b"<Delete><Object><Key>&b;</Key></Object></Delete>",
        b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><Delete>&f;</Delete>',
        b'<!DOCTYPE x SYSTEM "http://127.0.0.1/x.dtd"><Delete/>',
        ('<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE x>').encode("utf-16"),
        b'<?xml version="1.0" encoding="no-such"?><x/>',
        b"<Delete>&undefined;</Delete>",
        b"\xff\xfe\x00",
        b"<Delete><Object><Key>\xff</Key></Object></Delete>",
        b"<Delete><Object><Key>&#0;</Key></Object></Delete>",
        b" " * (XML_BODY_BYTES_MAX + 1),
    ],
)
def test_what_no_client_of_s3_sends_is_malformed(reader: object, body: bytes) -> None:
    assert code_of(reader, body) == "MalformedXML"


@pytest.mark.parametrize(
    "inside",
    [
        b"",
        b"text",
        b"<Object></Object>",
        b"<Object><Key></Key></Object>",
        b"<Object><Key>a</Key><Key>b</Key></Object>",
        b"<Object><Key>a<b/></Key></Object>",
        b"<Object>text<Key>a</Key></Object>",
        b"<Object><Key>a</Key><Condition>x</Condition></Object>",
        b"<Object><Key>a</Key></Object><Unknown/>",
        b"<Object><Key>a</Key></Object><Quiet>perhaps</Quiet>",
        b"<Object><Key>a</Key></Object><Quiet>true</Quiet><Quiet>false</Quiet>",
        b"<Object><Object><Key>a</Key></Object></Object>",
        b"<Object><Key>a</Key></Object>" * (DELETE_KEYS_MAX + 1),
    ],
)
def test_a_delete_that_does_not_fit_the_schema_is_malformed(inside: bytes) -> None:
    assert code_of(read_delete, b"<Delete>" + inside + b"</Delete>") == "MalformedXML"


PART = b"<Part><PartNumber>%d</PartNumber><ETag>e</ETag></Part>"


@pytest.mark.parametrize(
    "inside",
    [
        b"",
        b"<Part><PartNumber>1</PartNumber></Part>",
        b"<Part><ETag>e</ETag></Part>",
        b'<Part><PartNumber>1</PartNumber><ETag>""</ETag></Part>',
        b"<Part><PartNumber>one</PartNumber><ETag>e</ETag></Part>",
        b"<Part><PartNumber>-1</PartNumber><ETag>e</ETag></Part>",
        b"<Part><PartNumber>" + b"9" * 5000 + b"</PartNumber><ETag>e</ETag></Part>",
        b"".join(PART % number for number in range(1, PART_NUMBER_MAX + 2)),
    ],
)
def test_a_completion_that_does_not_fit_the_schema_is_malformed(inside: bytes) -> None:
    body = b"<CompleteMultipartUpload>" + inside + b"</CompleteMultipartUpload>"
    assert code_of(read_complete_multipart_upload, body) == "MalformedXML"


def test_a_body_past_the_limit_is_refused_however_well_formed() -> None:
    fits = DELETE_A + b" " * (XML_BODY_BYTES_MAX - len(DELETE_A))
    assert read_delete(fits).targets == (DeleteTarget(b"a"),)
    assert code_of(read_delete, fits + b" ") == "MalformedXML"


def test_as_many_rows_as_s3_takes_are_read() -> None:
    body = b"<Delete>" + b"<Object><Key>a</Key></Object>" * DELETE_KEYS_MAX + b"</Delete>"
    assert len(read_delete(body).targets) == DELETE_KEYS_MAX
    parts = b"".join(PART % number for number in range(1, PART_NUMBER_MAX + 1))
    body = b"<CompleteMultipartUpload>" + parts + b"</CompleteMultipartUpload>"
    assert len(read_complete_multipart_upload(body)) == PART_NUMBER_MAX


@pytest.mark.parametrize("element", ["Location", "Bucket", "Tags"])
def test_a_setting_of_a_new_bucket_that_we_do_not_have_is_refused(element: str) -> None:
    body = f"<CreateBucketConfiguration><{element}/></CreateBucketConfiguration>".encode()
    assert code_of(read_create_bucket_configuration, body) == "MalformedXML"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, len(DELETE_A)))
def test_a_spoiled_body_is_read_or_refused_and_nothing_else(spoil: bytes, where: int) -> None:
    body = DELETE_A[:where] + spoil + DELETE_A[where + len(spoil) :]
    try:
        targets = read_delete(body).targets
    except S3Error as refusal:
        code = refusal.code
    else:
        code = "" if targets else "nothing read and nothing refused"
    assert code in ("", "MalformedXML")
