"""`host:port` as people type it: parsed once, with an error that says what is wrong with it."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

DEFAULT_COORDINATOR_PORT = 9400
_PORT_MAX = 65_535


class BadAddress(ValueError):
    """Not a `host:port`; the message says why."""


class Address(NamedTuple):
    """The address of a listener. An IPv6 host is stored without its brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """Whether it means "every interface": good to listen on, useless to connect to."""
        address = _as_ip(self.host)
        return address is not None and address.is_unspecified

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        address = _as_ip(self.host)
        return self.host == "localhost" or (address is not None and address.is_loopback)


def parse_address(text: str) -> Address:
    """`text` as an address; port 0 passes, a listener may use it. Raises BadAddress."""
    host, colon, port_text = text.rpartition(":")
    if not colon or not host:
        raise BadAddress(f"{text!r} is not host:port")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if bracketed != (":" in host) or not host or not _is_host(host):
        raise BadAddress(f"{text!r} is not host:port (an IPv6 host stands in brackets)")
    if not (port_text.isascii() and port_text.isdecimal()) or int(port_text) > _PORT_MAX:
        raise BadAddress(f"the port of {text!r} is not a number from 0 to {_PORT_MAX}")
    return Address(host, int(port_text))


def _is_host(host: str) -> bool:
    if ":" in host:
        return _as_ip(host) is not None
    return host.isascii() and all(c.isalnum() or c in "-._" for c in host)


def _as_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
