"""Takes a port before anything else happens, so that a start that must fail changes nothing."""

from __future__ import annotations

import errno
import socket

from octad.client.runtime.address import Address, BadAddress, parse_address
from octad.client.runtime.command import CommandError

_BACKLOG = 1024


def take_port(text: str, option: str) -> socket.socket:
    """A socket bound to `text` (host:port, given as `option`); raises CommandError.

    It does not listen: whoever connects is refused at once and goes elsewhere, where a connection
    that no one serves yet would be reset, with its request, when this is closed.
    """
    try:
        address = parse_address(text)
    except BadAddress as error:
        raise CommandError(str(error), f"correct {option}", 2) from error
    try:
        family, _, _, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM
        )[0]
        return _bound(family, where)
    except socket.gaierror as error:
        raise CommandError(
            f"{address.host} is no host of this machine ({error.strerror})", f"correct {option}"
        ) from error
    except OSError as error:
        raise CommandError(*_why(address, option, error)) from error


def listen_on(text: str, option: str) -> socket.socket:
    """A listening socket on `text` (host:port, given as `option`); raises CommandError."""
    listener = take_port(text, option)
    try:
        listener.listen(_BACKLOG)
    except OSError as error:  # Another process had the port too, and listens already.
        listener.close()
        raise CommandError(*_why(parse_address(text), option, error)) from error
    return listener


def datagrams_beside(listener: socket.socket, option: str) -> socket.socket:
    """A UDP socket at the address of a TCP one; raises CommandError."""
    where = listener.getsockname()
    datagrams = socket.socket(listener.family, socket.SOCK_DGRAM)
    try:
        datagrams.bind(where)
    except OSError as error:
        datagrams.close()
        raise CommandError(*_why(Address(*where[:2]), option, error)) from error
    datagrams.setblocking(False)
    return datagrams


def _bound(family: int, where: tuple[str | int, ...] | tuple[int, bytes]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(where)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _why(address: Address, option: str, error: OSError) -> tuple[str, str]:
    if error.errno == errno.EADDRINUSE:
        return f"{address} is in use", f"stop what listens there, or choose another {option}"
    if error.errno == errno.EACCES:
        return f"no permission to listen on {address}", f"choose a port above 1023 for {option}"
    return f"cannot listen on {address} ({error.strerror})", f"correct {option}"
