"""Who may be checked, what an answer means, and when that is told: pure decisions.

A check makes the coordinator connect to where someone else says. So it goes to addresses of the
networks that its operator named, and nowhere else; and all that anyone learns of it is whether it
passed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

FAILURES_UNTIL_TOLD = 2  # One answer may be lost.

Network = IPv4Network | IPv6Network
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] 2\d\d[ \r\n]")


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks as `10.0.0.0/8,fd00::/8`; raises ValueError."""
    return tuple(ip_network(each.strip()) for each in text.split(",") if each.strip())


def address_in(text: str, networks: Iterable[Network]) -> str | None:
    """The address to connect to, if `text` is one and in the networks; None: it is not.

    An IPv4 address in an IPv6 one's clothes is looked at as what it is.
    """
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address) if any(address in network for network in networks) else None


def refusal_of(networks: Sequence[Network], host: str) -> str | None:
    """Why no instance at `host` can be checked; None: it can, as far as is known yet."""
    if not networks:
        return "no one is checked here: start the coordinators with --check-networks"
    if is_address(host) and address_in(host, networks) is None:
        return f"{host} is in none of the networks of --check-networks"
    return None


def is_address(text: str) -> bool:
    """Whether it is an address, and not a name to look up."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def first_allowed(found: Sequence[str], networks: Iterable[Network]) -> str | None:
    """The first of a name's addresses that may be connected to."""
    named = tuple(networks)
    return next((each for text in found if (each := address_in(text, named))), None)


def http_request(host: str, path: str) -> bytes:
    """A check over HTTP. Nothing of it comes from the registration but host and path."""
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: octad-check\r\n"
    return f"{head}Accept: */*\r\nConnection: close\r\n\r\n".encode("ascii")


def is_success(first_line: bytes) -> bool:
    """Whether an HTTP answer says 200 to 299: a redirect is none, and is not followed."""
    return _STATUS_LINE.match(first_line) is not None


def verdict(told: bool | None, failures: int) -> bool | None:
    """What is to be told, after so many failures in a row; `told`: what was."""
    if failures == 0:
        return True
    return False if failures >= FAILURES_UNTIL_TOLD else told
