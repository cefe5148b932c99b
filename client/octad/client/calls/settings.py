"""What a client is made with: arguments, and the environment for what they leave out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from octad.client.errors import ConfigurationError
from octad.client.http.transport import Address, Proxy
from octad.client.s3.sigv4 import Credentials

REGION: Final = "us-east-1"
DEADLINE_S: Final = 60.0


class Settings(NamedTuple):
    """Checked. `endpoints` is empty where the coordinator knows them."""

    endpoints: tuple[Address, ...]
    credentials: Credentials
    session_token: str
    region: str
    coordinators: tuple[Address, ...]
    authority_file: str
    deadline_s: float
    hedge: bool
    proxies: Mapping[str, str]  # Variables of the environment, where any names one.

    def proxy_for(self, address: Address) -> Proxy | None:
        """The one on the way to it. Raises ConfigurationError."""
        if not self.proxies:
            return None
        from octad.client.http.proxy import proxy_of

        try:
            return proxy_of(address, self.proxies)
        except ValueError as error:
            fix = "write http_proxy and https_proxy as http://host:port"
            raise ConfigurationError(str(error), fix) from error


def settings_of(
    endpoint: str | None,
    access_key: str | None,
    secret_key: str | None,
    *,
    coordinator: str | None,
    region: str | None,
    authority_file: str | None,
    deadline_s: float,
    hedge: bool,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Raises ConfigurationError."""
    found = os.environ if environment is None else environment
    endpoint = endpoint or found.get("AWS_ENDPOINT_URL_S3") or found.get("AWS_ENDPOINT_URL")
    coordinator = coordinator or found.get("OCTAD_COORDINATOR")
    if not endpoint and not coordinator:
        raise ConfigurationError(
            "no endpoint is given",
            "name one (endpoint='http://host:9000'), or set AWS_ENDPOINT_URL or OCTAD_COORDINATOR",
        )
    token = "" if access_key else found.get("AWS_SESSION_TOKEN", "")
    access_key = access_key or found.get("AWS_ACCESS_KEY_ID")
    secret_key = secret_key or found.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        raise ConfigurationError(
            "no access key is given" if not access_key else "no secret key is given",
            "pass access_key= and secret_key=, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    if not deadline_s > 0:
        raise ConfigurationError(f"a deadline of {deadline_s} s is over already", "give more time")
    settings = Settings(
        endpoints=_addresses(endpoint or "", "an endpoint", 9000),
        credentials=Credentials(access_key, secret_key),
        session_token=token,
        region=region or found.get("AWS_REGION") or found.get("AWS_DEFAULT_REGION") or REGION,
        coordinators=_addresses(coordinator or "", "a coordinator", 9400),
        authority_file=authority_file or found.get("AWS_CA_BUNDLE", ""),
        deadline_s=deadline_s,
        hedge=hedge,
        proxies=_proxies(found),
    )
    for address in (*settings.endpoints, *settings.coordinators):
        settings.proxy_for(address)
    return settings


def _proxies(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Empty where none is named. HTTP_PROXY is as good as http_proxy, which comes first."""
    names = ("http_proxy", "https_proxy", "no_proxy")
    found = {name: environment.get(name) or environment.get(name.upper(), "") for name in names}
    return found if found["http_proxy"] or found["https_proxy"] else {}


def _addresses(urls: str, what: str, usual_port: int) -> tuple[Address, ...]:
    return tuple(_address(url.strip(), what, usual_port) for url in urls.split(",") if url.strip())


def _address(url: str, what: str, usual_port: int) -> Address:
    fix = f"write it as http://host:{usual_port} or https://host:{usual_port}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{url!r} is not {what}'s URL: {error}", fix) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{url!r} is not {what}'s URL", fix)
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
        raise ConfigurationError(f"{url!r} has more in it than {what}'s address", fix)
    tls = parts.scheme == "https"
    return Address(parts.hostname, port or (443 if tls else 80), tls)
