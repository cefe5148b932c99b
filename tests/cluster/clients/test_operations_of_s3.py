"""Every operation of botocore's model is asked once: served as the page says, or 501."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from botocore.model import Shape
from tests.harness.cluster_process import DevCluster
from tests.harness.s3_clients import s3_client
from tools.compliance.__main__ import PAGE
from tools.compliance.operations import OF_OTHER_HOSTS, ModelOperation, model_operations
from tools.compliance.page import page

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.cluster

OPERATIONS = [each for each in model_operations() if each.name not in OF_OTHER_HOSTS]
BUCKET, KEY = "operations-of-s3", "key"


def test_the_page_says_what_its_command_says() -> None:
    """Of the operations on it: a newer model may have more."""
    written = (Path(__file__).parents[3] / PAGE).read_text().splitlines()
    made = {line.split(" ")[1]: line for line in page().splitlines() if line.startswith("| ")}
    for line in written:
        if line.startswith("| ") and line.split(" ")[1] in made:
            assert line == made[line.split(" ")[1]], "run the command that its first line names"


@pytest.fixture(scope="module")
def client(cluster: DevCluster) -> Iterator[S3Client]:
    """Of a cluster in which there is what each operation needs."""
    with s3_client(cluster) as client:
        client.create_bucket(Bucket=BUCKET)
        yield client
        delete_all(client)


def delete_all(client: S3Client) -> None:
    for bucket in (BUCKET, f"{BUCKET}-new"):
        try:
            uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        except ClientError:
            continue
        for upload in uploads:
            client.abort_multipart_upload(
                Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
            )
        for found in client.list_objects_v2(Bucket=bucket).get("Contents", []):
            client.delete_object(Bucket=bucket, Key=found["Key"])
        client.delete_bucket(Bucket=bucket)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_an_operation_is_served_or_refused_by_name(
    client: S3Client, operation: ModelOperation
) -> None:
    client.put_object(Bucket=BUCKET, Key=KEY, Body=b"body")
    model = client.meta.service_model.operation_model(operation.name)
    upload = client.create_multipart_upload(Bucket=BUCKET, Key=KEY)["UploadId"]
    arguments = value_of(model.input_shape, {"UploadId": upload}) if model.input_shape else {}
    if operation.name == "CreateBucket":
        arguments["Bucket"] += "-new"
    status, code = asked(client, operation.name, arguments)
    if operation.is_served:
        assert status < 500, (status, code)
    else:
        assert (status, code) == (501, "NotImplemented")
        assert client.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == b"body"


def asked(client: S3Client, name: str, arguments: dict[str, Any]) -> tuple[int, str]:
    """Status and error code of the answer."""
    try:
        answer = client._make_api_call(name, arguments)  # type: ignore[attr-defined]
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    return answer["ResponseMetadata"]["HTTPStatusCode"], ""


def value_of(shape: Shape, known: dict[str, str], name: str = "") -> Any:
    """The smallest value of a shape: of a structure, what is required."""
    match shape.type_name:
        case "structure":
            members: dict[str, Shape] = shape.members  # type: ignore[attr-defined]
            required = shape.required_members or list(members)[:1] * bool(name)
            return {each: value_of(members[each], known, each) for each in required}
        case "list":
            return [value_of(shape.member, known, "one")]  # type: ignore[attr-defined]
        case "map":
            return {"key": "value"}
        case "string":
            values = {"Bucket": BUCKET, "Key": KEY, "CopySource": f"{BUCKET}/{KEY}", **known}
            options = shape.metadata.get("enum") or [values.get(name, "the-name-of-something")]
            return options[0]
        case "integer" | "long":
            return 1
        case "boolean":
            return False
        case "timestamp":
            return datetime(2030, 1, 1, tzinfo=UTC)
        case "blob":
            return b"x"
    raise AssertionError(shape.type_name)
