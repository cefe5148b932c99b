"""boto3 clients for a cluster under test, and the environment in which other clients find it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.harness.cluster_process import DevCluster

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@contextmanager
def s3_client(cluster: DevCluster, node: int = 0) -> Iterator[S3Client]:
    """A client of one node of `cluster`."""
    keys = cluster.access_key, cluster.secret_key
    with client_of(cluster.endpoint(node), *keys, cluster.authority) as client:
        yield client


@contextmanager
def client_of(
    endpoint: str, access_key: str, secret_key: str, authority: str = ""
) -> Iterator[S3Client]:
    """A client that reports a failure instead of trying again."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
        verify=authority or None,
        config=Config(
            signature_version="s3v4",  # Its presigned URLs would have the old version else.
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            max_pool_connections=16,
            connect_timeout=5,
            read_timeout=60,
        ),
    )
    try:
        yield client
    finally:
        client.close()


def retrying_client(cluster: DevCluster, node: int) -> S3Client:
    """A client of one node that tries again, as SDKs do."""
    return boto3.client(
        "s3",
        endpoint_url=cluster.endpoint(node),
        aws_access_key_id=cluster.access_key,
        aws_secret_access_key=cluster.secret_key,
        region_name="us-east-1",
        config=Config(
            retries={"mode": "standard", "total_max_attempts": 6},
            connect_timeout=5,
            read_timeout=40,
        ),
    )


def put_status(client: S3Client, bucket: str, key: str, body: bytes) -> int:
    """PUT; gives the HTTP status, whatever it is."""
    try:
        client.put_object(Bucket=bucket, Key=key, Body=body)
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"]
    return 200


def environment_of_others() -> dict[str, str]:
    """This process's environment without what the user has set up for other clusters."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "OCTAD_", "RCLONE_"))
    }


def aws_environment(cluster: DevCluster) -> dict[str, str]:
    """Where awscli, boto3 and rclone find `cluster`, and no file of the user's."""
    return {
        **environment_of_others(),
        "AWS_ACCESS_KEY_ID": cluster.access_key,
        "AWS_SECRET_ACCESS_KEY": cluster.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": cluster.endpoint(),
        **({"AWS_CA_BUNDLE": cluster.authority} if cluster.authority else {}),
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "RCLONE_CONFIG": "/dev/null",
        "NO_PROXY": "127.0.0.1",
        "LC_ALL": "C.UTF-8",
    }
