"""The documents that S3 answers with, read back by botocore."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree

import botocore.parsers
import botocore.session
import pytest
from botocore.model import ServiceModel
from hypothesis import given, settings
from hypothesis import strategies as st

from octad.client.s3.errors import S3_ERRORS, S3Error
from octad.client.s3.http_dates import iso_date
from octad.storage_node.s3.protocol.xml.documents import (
    NAMESPACE,
    BucketEntry,
    DeleteFailure,
    ListMultipartUploads,
    ListObjectsV1,
    ListObjectsV2,
    ListParts,
    ObjectEntry,
    Owner,
    PartEntry,
    UploadEntry,
    complete_multipart_upload_xml,
    copy_object_xml,
    copy_part_xml,
    delete_result_xml,
    error_xml,
    escape,
    initiate_multipart_upload_xml,
    list_buckets_xml,
    list_multipart_uploads_xml,
    list_object_versions_xml,
    list_objects_v1_xml,
    list_objects_v2_xml,
    list_parts_xml,
    location_constraint_xml,
    url_encoded,
    versioning_configuration_xml,
)
from octad.storage_node.s3.protocol.xml.requests import DeleteTarget

OWNER = Owner("id&1", "<name>")
MODIFIED_MS = 1_369_353_600_123
ODD = b"a&b<c>\"d'e\r\n\t\xc3\xa9/+%=?#"
Parsed = Mapping[str, object]


@cache
def s3() -> ServiceModel:
    return botocore.session.get_session().get_service_model("s3")


def parsed(operation: str, body: bytes) -> dict[str, object]:
    """What botocore makes of the document, without the metadata it adds."""
    ElementTree.fromstring(body)
    shape = s3().operation_model(operation).output_shape
    assert shape is not None
    parser = botocore.parsers.create_parser("rest-xml")
    answer = parser.parse({"status_code": 200, "headers": {}, "body": body}, shape)
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def names(entries: object, field: str) -> list[object]:
    assert isinstance(entries, list)
    return [entry[field] for entry in entries]


def entry(key: bytes, **more: str) -> ObjectEntry:
    return ObjectEntry(key, MODIFIED_MS, "0" * 32, 5, **more)


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_text_survives_or_is_replaced_and_never_breaks_the_document(text: str) -> None:
    root = ElementTree.fromstring(f'<a b="{escape(text)}">{escape(text)}</a>')
    legal = "".join(
        letter
        if letter in "\t\n\r" or (letter >= " " and letter not in "\ufffe\uffff")
        else "\ufffd"
        for letter in text
    )
    assert (root.text or "") == legal


def test_ordinary_text_is_not_even_copied() -> None:
    text = "an/ordinary key.txt"
    assert escape(text) is text


@settings(deadline=None)
@given(st.binary(max_size=20))
def test_an_encoded_key_is_the_key(key: bytes) -> None:
    assert unquote_to_bytes(url_encoded(key)) == key
    assert url_encoded(key).isascii()


def test_the_encoding_keeps_slashes_and_encodes_the_rest() -> None:
    assert url_encoded(b"a/b=c%d+e f~g-h_i.j") == "a/b%3Dc%25d%2Be%20f~g-h_i.j"


LISTED = st.lists(st.binary(min_size=1, max_size=12), max_size=6)


@settings(max_examples=150, deadline=None)
@given(LISTED, LISTED, st.booleans())
def test_a_page_tells_every_key_whatever_its_bytes(
    keys: list[bytes], prefixes: list[bytes], url_encoding: bool
) -> None:
    body = list_objects_v2_xml(
        ListObjectsV2(
            "bucket",
            max_keys=1000,
            is_truncated=False,
            objects=[entry(key) for key in keys],
            common_prefixes=prefixes,
            url_encoding=url_encoding,
        )
    )
    write = url_encoded if url_encoding else text_of
    assert texts("Key", body) == [write(key) for key in keys]
    shown = re.findall("<CommonPrefixes><Prefix>(.*?)</Prefix>", body.decode(), re.DOTALL)
    assert [resolved(text) for text in shown] == [write(prefix) for prefix in prefixes]


@settings(max_examples=150, deadline=None)
@given(st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=6))
def test_no_two_keys_look_alike(keys: set[str]) -> None:
    objects = [entry(key.encode()) for key in keys]
    for page in (
        list_objects_v1_xml(ListObjectsV1("b", 1000, False, objects)),
        list_objects_v2_xml(ListObjectsV2("b", 1000, False, objects)),
        list_object_versions_xml(ListObjectsV1("b", 1000, False, objects), ""),
    ):
        assert set(texts("Key", page)) == keys


@pytest.mark.parametrize("bad", ["\ufffe", "\uffff", "\x00", "\x0b", "\x1f"])
def test_what_xml_cannot_carry_is_a_reference_in_a_listing_and_a_mark_elsewhere(bad: str) -> None:
    key = f"b{bad}".encode()
    listing = list_objects_v2_xml(ListObjectsV2("b", 1000, False, [entry(key)]))
    assert f"<Key>b&#x{ord(bad):X};</Key>".encode() in listing
    begun = ElementTree.fromstring(initiate_multipart_upload_xml("b", key, "upload"))
    assert begun.findtext(f"{{{NAMESPACE}}}Key") == "b\ufffd"


def texts(name: str, document: bytes) -> list[str]:
    """Of all elements of that name, also in a document that no strict parser takes."""
    found = re.findall(f"<{name}>(.*?)</{name}>", document.decode(), re.DOTALL)
    return [resolved(text) for text in found]


def resolved(text: str) -> str:
    """Character data with its references read, whatever they name."""
    named = {"amp": "&", "lt": "<", "gt": ">", "quot": '"'}

    def read(found: re.Match[str]) -> str:
        name = found[1]
        if name.startswith("#x"):
            return chr(int(name[2:], 16))
        return chr(int(name[1:])) if name.startswith("#") else named[name]

    return re.sub("&(.*?);", read, text)


def text_of(key: bytes) -> str:
    """What a reader without url encoding can see of a key."""
    return key.decode("utf-8", "replace")


def test_a_page_of_version_two() -> None:
    page = parsed(
        "ListObjectsV2",
        list_objects_v2_xml(
            ListObjectsV2(
                "bucket",
                max_keys=7,
                is_truncated=True,
                objects=[entry(ODD, checksum_algorithm="CRC32", checksum_type="FULL_OBJECT")],
                common_prefixes=[b"p/"],
                prefix=b"a",
                delimiter=b"/",
                start_after=b"0",
                continuation_token="token",
                next_continuation_token="next",
                owner=OWNER,
            )
        ),
    )
    assert page["KeyCount"] == 2
    assert (page["Name"], page["MaxKeys"], page["IsTruncated"]) == ("bucket", 7, True)
    assert (page["Prefix"], page["Delimiter"], page["StartAfter"]) == ("a", "/", "0")
    assert (page["ContinuationToken"], page["NextContinuationToken"]) == ("token", "next")
    assert "EncodingType" not in page
    [contents] = page["Contents"] if isinstance(page["Contents"], list) else []
    assert contents["LastModified"].isoformat() == "2013-05-24T00:00:00.123000+00:00"
    del contents["LastModified"]
    assert contents == {
        "Key": ODD.decode(),
        "ETag": f'"{"0" * 32}"',
        "Size": 5,
        "StorageClass": "STANDARD",
        "ChecksumAlgorithm": ["CRC32"],
        "ChecksumType": "FULL_OBJECT",
        "Owner": {"ID": "id&1", "DisplayName": "<name>"},
    }
    assert page["CommonPrefixes"] == [{"Prefix": "p/"}]


def test_a_page_of_version_one_with_encoded_keys() -> None:
    page = parsed(
        "ListObjects",
        list_objects_v1_xml(
            ListObjectsV1(
                "bucket",
                max_keys=2,
                is_truncated=True,
                objects=[entry(b"a b")],
                common_prefixes=[b"a=/"],
                prefix=b"a",
                delimiter=b"=/",
                marker=b"a%",
                next_marker=b"a=/",
                url_encoding=True,
            )
        ),
    )
    assert page["EncodingType"] == "url"
    assert names(page["Contents"], "Key") == ["a%20b"]
    assert page["CommonPrefixes"] == [{"Prefix": "a%3D/"}]
    assert (page["Prefix"], page["Delimiter"], page["Marker"]) == ("a", "%3D/", "a%25")
    assert page["NextMarker"] == "a%3D/"
    assert "Owner" not in list_objects_v1_xml(ListObjectsV1("b", 1, False, [])).decode()


def test_an_empty_page_has_its_empty_prefix_and_nothing_it_was_not_asked() -> None:
    page = parsed("ListObjectsV2", list_objects_v2_xml(ListObjectsV2("b", 1000, False, [])))
    assert page == {
        "Name": "b",
        "Prefix": "",
        "KeyCount": 0,
        "MaxKeys": 1000,
        "IsTruncated": False,
    }


def test_the_buckets_of_an_owner() -> None:
    body = list_buckets_xml(
        OWNER, [BucketEntry("one", MODIFIED_MS)], prefix="o", continuation_token="t"
    )
    answer = parsed("ListBuckets", body)
    assert answer["Owner"] == {"ID": "id&1", "DisplayName": "<name>"}
    assert names(answer["Buckets"], "Name") == ["one"]
    assert (answer["Prefix"], answer["ContinuationToken"]) == ("o", "t")
    assert iso_date(MODIFIED_MS).encode() in body


def test_the_documents_of_a_multipart_upload() -> None:
    body = initiate_multipart_upload_xml("bucket", ODD, "upload")
    assert parsed("CreateMultipartUpload", body) == {
        "Bucket": "bucket",
        "Key": ODD.decode(),
        "UploadId": "upload",
    }
    body = complete_multipart_upload_xml(
        location="http://h/b/a%20b",
        bucket="bucket",
        key=ODD,
        etag="0-2",
        checksums={"CRC32": "AAAAAA=="},
        checksum_type="FULL_OBJECT",
    )
    assert parsed("CompleteMultipartUpload", body) == {
        "Location": "http://h/b/a%20b",
        "Bucket": "bucket",
        "Key": ODD.decode(),
        "ETag": '"0-2"',
        "ChecksumCRC32": "AAAAAA==",
        "ChecksumType": "FULL_OBJECT",
    }


def test_the_results_of_copies() -> None:
    checksums = {"SHA1": "AAAA"}
    copied = copy_object_xml(etag="0", modified_ms=MODIFIED_MS, checksums=checksums)
    result = parsed("CopyObject", copied)["CopyObjectResult"]
    assert isinstance(result, dict)
    assert (result["ETag"], result["ChecksumSHA1"]) == ('"0"', "AAAA")
    part = copy_part_xml(etag="0", modified_ms=MODIFIED_MS, checksums=checksums)
    result = parsed("UploadPartCopy", part)["CopyPartResult"]
    assert isinstance(result, dict)
    assert (result["ETag"], result["ChecksumSHA1"]) == ('"0"', "AAAA")


def parts_page(parts: Sequence[PartEntry]) -> dict[str, object]:
    return parsed(
        "ListParts",
        list_parts_xml(
            ListParts(
                "bucket",
                ODD,
                "upload",
                OWNER,
                part_number_marker=3,
                max_parts=2,
                is_truncated=bool(parts),
                parts=parts,
                checksum_algorithm="CRC32",
                checksum_type="COMPOSITE",
            )
        ),
    )


def test_a_page_of_parts_says_where_the_next_starts() -> None:
    page = parts_page([PartEntry(4, MODIFIED_MS, "0", 9, {"CRC32": "AAAAAA=="})])
    assert (page["Key"], page["UploadId"], page["MaxParts"]) == (ODD.decode(), "upload", 2)
    assert (page["PartNumberMarker"], page["NextPartNumberMarker"]) == (3, 4)
    assert (page["ChecksumAlgorithm"], page["ChecksumType"]) == ("CRC32", "COMPOSITE")
    assert names(page["Parts"], "ChecksumCRC32") == ["AAAAAA=="]
    assert names(page["Parts"], "Size") == [9]
    assert parts_page([])["NextPartNumberMarker"] == 0


def test_a_page_of_versions_shows_each_object_as_its_only_one() -> None:
    page = ListObjectsV1(
        "bucket",
        2,
        True,
        [entry(b"a")],
        [b"b/"],
        delimiter=b"/",
        marker=b"0",
        next_marker=b"b/",
        owner=OWNER,
    )
    shown = parsed("ListObjectVersions", list_object_versions_xml(page, "null"))
    assert names(shown["Versions"], "VersionId") == ["null"]
    assert names(shown["Versions"], "IsLatest") == [True]
    assert (shown["KeyMarker"], shown["VersionIdMarker"]) == ("0", "null")
    assert shown["NextKeyMarker"] == "b/"
    assert "NextVersionIdMarker" not in shown
    after_a_key = parsed(
        "ListObjectVersions", list_object_versions_xml(replace(page, next_marker=b"a"), "")
    )
    assert (after_a_key["NextKeyMarker"], after_a_key["NextVersionIdMarker"]) == ("a", "null")


def test_a_page_of_uploads() -> None:
    page = parsed(
        "ListMultipartUploads",
        list_multipart_uploads_xml(
            ListMultipartUploads(
                "bucket",
                max_uploads=3,
                is_truncated=True,
                uploads=[UploadEntry(b"a b", "upload", OWNER, MODIFIED_MS, "CRC32", "COMPOSITE")],
                common_prefixes=[b"p+"],
                prefix=b"a",
                delimiter=b"+",
                key_marker=b"0",
                upload_id_marker="u0",
                next_key_marker=b"a b",
                next_upload_id_marker="upload",
                url_encoding=True,
            )
        ),
    )
    assert names(page["Uploads"], "Key") == ["a%20b"]
    assert names(page["Uploads"], "ChecksumType") == ["COMPOSITE"]
    assert page["CommonPrefixes"] == [{"Prefix": "p%2B"}]
    assert (page["KeyMarker"], page["UploadIdMarker"]) == ("0", "u0")
    assert (page["NextKeyMarker"], page["NextUploadIdMarker"]) == ("a%20b", "upload")


def test_what_was_deleted_and_what_was_not() -> None:
    body = delete_result_xml(
        [DeleteTarget(b"a"), DeleteTarget(ODD)], [DeleteFailure(b"b", "InternalError", "<why>")]
    )
    answer = parsed("DeleteObjects", body)
    assert names(answer["Deleted"], "Key") == ["a", ODD.decode()]
    assert answer["Errors"] == [{"Key": "b", "Code": "InternalError", "Message": "<why>"}]
    assert parsed("DeleteObjects", delete_result_xml([], [])) == {}


@pytest.mark.parametrize(("region", "expected"), [("us-east-1", None), ("eu-west-1", "eu-west-1")])
def test_the_location_of_a_bucket(region: str, expected: str | None) -> None:
    root = ElementTree.fromstring(location_constraint_xml(region))
    assert root.tag == f"{{{NAMESPACE}}}LocationConstraint"
    assert root.text == expected


def test_a_bucket_that_never_had_versioning_says_nothing_about_it() -> None:
    assert parsed("GetBucketVersioning", versioning_configuration_xml()) == {}


def test_an_error_says_what_and_where_and_carries_its_fields() -> None:
    error = S3Error("NoSuchKey", fields={"Key": "a<b\x00"})
    root = ElementTree.fromstring(
        error_xml(error, resource="/b/a&b", request_id="R1", host_id="H1")
    )
    assert {child.tag: child.text for child in root} == {
        "Code": "NoSuchKey",
        "Message": "The specified key does not exist.",
        "Key": "a<b\ufffd",
        "Resource": "/b/a&b",
        "RequestId": "R1",
        "HostId": "H1",
    }
    assert root.tag == "Error"


def test_every_code_has_a_status_and_a_message() -> None:
    for code, (status, message) in S3_ERRORS.items():
        error = S3Error(code)
        assert (error.code, error.http_status, error.message) == (code, status, message)
        assert 400 <= status <= 599
        assert message
    with pytest.raises(KeyError):
        S3Error("NoSuchCode")
