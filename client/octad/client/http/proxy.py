"""Proxies on the way out, as the environment names them: http_proxy, https_proxy, no_proxy.

What is asked for in plain HTTP goes to the proxy with its whole URL; for TLS the proxy is asked for
a tunnel first, and sees nothing of what goes through it. This machine itself is never reached by
way of one.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

from octad.client.http.transport import (
    Address,
    CannotConnect,
    ConnectionFailed,
    Proxy,
    Transport,
)

_HEAD_END: Final = b"\r\n\r\n"
_HEAD_BYTES_MAX: Final = 16 * 1024


def proxy_of(address: Address, variables: Mapping[str, str]) -> Proxy | None:
    """The one on the way to `address`. `variables` has the three. Raises ValueError."""
    url = variables.get("https_proxy" if address.tls else "http_proxy", "")
    if not url or _is_here(address.host) or _is_excepted(address, variables.get("no_proxy", "")):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{url!r} is not a proxy's URL")
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {b64encode(pair.encode()).decode()}"
    return Proxy(Address(parts.hostname, parts.port or 80), authorization)


async def open_tunnel(transport: Transport, address: Address, proxy: Proxy, until: float) -> None:
    """Have what is sent from now on reach `address`. Raises CannotConnect."""
    where = f"{f'[{address.host}]' if ':' in address.host else address.host}:{address.port}"
    lines = [f"CONNECT {where} HTTP/1.1", f"host: {where}"]
    if proxy.authorization:
        lines.append(f"proxy-authorization: {proxy.authorization}")
    head = b""
    try:
        await transport.send("\r\n".join([*lines, "", ""]).encode(), until)
        while not head.endswith(_HEAD_END) and len(head) < _HEAD_BYTES_MAX:
            more = await transport.receive(until)
            if not more:
                break
            head += more
    except ConnectionFailed as error:
        raise CannotConnect(f"the proxy {proxy.address.authority}: {error}") from error
    status = head.partition(b"\r\n")[0].decode("latin-1")
    if status.split(" ")[1:2] != ["200"]:
        raise CannotConnect(
            f"the proxy {proxy.address.authority} opens no way to {where}: "
            f"{status or 'it says nothing'}"
        )


def _is_here(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _is_excepted(address: Address, exceptions: str) -> bool:
    for each in exceptions.split(","):
        name, _, port = each.strip().lower().partition(":")
        if port and port != str(address.port):
            continue
        if name == "*" or (name and f".{address.host}".endswith(f".{name.lstrip('.')}")):
            return True
    return False
