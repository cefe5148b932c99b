"""boto3 and obstore for octad: their clients, with what `octad.Client` takes and reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from octad.client.calls.settings import DEADLINE_S, Settings, settings_of
from octad.client.errors import ConfigurationError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from obstore.store import S3Store


def boto3_client(
    endpoint: str | None = None,
    access_key: str | None = None,
    secret_key: str | None = None,
    *,
    region: str | None = None,
    authority_file: str | None = None,
    **more: Any,
) -> S3Client:
    """boto3's S3 client of the first endpoint: paths, signature 4, retries that octad wants.

    `more` goes to `boto3.client`. Raises ConfigurationError.
    """
    import boto3
    from botocore.config import Config

    settings = _settings(endpoint, access_key, secret_key, region, authority_file)
    wanted = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        retries={"mode": "standard", "total_max_attempts": 5},
    )
    given = more.pop("config", None)
    client: S3Client = boto3.client(
        "s3",
        endpoint_url=settings.endpoints[0].url,
        aws_access_key_id=settings.credentials.access_key,
        aws_secret_access_key=settings.credentials.secret_key,
        region_name=settings.region,
        verify=settings.authority_file or None,
        config=wanted if given is None else wanted.merge(given),
        **more,
    )
    return client


def obstore_store(
    bucket: str,
    endpoint: str | None = None,
    access_key: str | None = None,
    secret_key: str | None = None,
    *,
    region: str | None = None,
    **more: Any,
) -> S3Store:
    """obstore's store of a bucket at the first endpoint, with conditional writes.

    `more` goes to `obstore.store.S3Store`; TLS trusts what the system does. Raises
    ConfigurationError.
    """
    from obstore.store import S3Store

    settings = _settings(endpoint, access_key, secret_key, region, None)
    address = settings.endpoints[0]
    options = {"allow_http": not address.tls, **more.pop("client_options", {})}
    return S3Store(
        bucket,
        endpoint=address.url,
        access_key_id=settings.credentials.access_key,
        secret_access_key=settings.credentials.secret_key,
        region=settings.region,
        virtual_hosted_style_request=False,
        client_options=options,
        **more,
    )


def _settings(
    endpoint: str | None,
    access_key: str | None,
    secret_key: str | None,
    region: str | None,
    authority_file: str | None,
) -> Settings:
    settings = settings_of(
        endpoint,
        access_key,
        secret_key,
        coordinator=None,
        region=region,
        authority_file=authority_file,
        deadline_s=DEADLINE_S,
        hedge=False,
    )
    if not settings.endpoints:
        raise ConfigurationError("no endpoint is given", "name one (endpoint='http://host:9000')")
    return settings
