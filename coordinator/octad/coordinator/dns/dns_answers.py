"""What there is to say about a name of the zone, from the services that are there: pure.

web.service.octad            A, AAAA, SRV   instances of web that may be sent work
_web._tcp.service.octad      SRV            the same, as RFC 2782 spells it
0a000005.addr.octad          A, AAAA        the target that a SRV record names for an address
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from octad.client.cluster.service_records import ServiceInstance
from octad.client.membership.choosing import serves
from octad.client.runtime.address import parse_address
from octad.coordinator.dns.dns_messages import Address, Answer, Code, Kind, Name, Question, Server

ZONE: Name = ("octad",)
RECORDS_MAX = 256  # Of one answer, over TCP: those at random.
_WEIGHT_MAX = 65_535
_LABEL_MAX, _LABELS_MAX = 63, 16
_VERSIONS: dict[int, int] = {Kind.A: 4, Kind.AAAA: 6}
_HEX_DIGITS: dict[int, type[IPv4Address] | type[IPv6Address]] = {8: IPv4Address, 32: IPv6Address}

Instances = Callable[[str], Iterable[ServiceInstance]]  # All of them, of a service.


def answer_to(
    question: Question, instances: Instances, shuffle: Callable[[list[str]], None]
) -> Answer:
    """`shuffle` puts a list into random order, so that everyone begins with another instance."""
    name = question.name
    if not question.is_internet or name[-1:] != ZONE:
        return Answer(Code.REFUSED)
    match name[:-1]:
        case (service, "service"):
            return _of_service(question, service, instances, shuffle)
        case (service, "_tcp", "service") if service.startswith("_"):
            return _of_service(question, service[1:], instances, shuffle)
        case (digits, "addr"):
            return _of_address(question, digits)
        case () | ("service",) | ("addr",):
            return Answer(Code.NOERROR, zone=ZONE)
    return Answer(Code.NXDOMAIN, zone=ZONE)


def _of_service(
    question: Question, service: str, instances: Instances, shuffle: Callable[[list[str]], None]
) -> Answer:
    all_there = {each.instance: each for each in instances(service)}
    if not all_there:
        return Answer(Code.NXDOMAIN, zone=ZONE)
    names = [name for name, each in all_there.items() if serves(each)]
    shuffle(names)
    chosen = [all_there[name] for name in names[:RECORDS_MAX]]
    name = question.name
    if question.kind == Kind.SRV:
        servers = [server for each in chosen if (server := _server(name, each)) is not None]
        addresses = {
            target: Address(target, address)
            for each in chosen
            if (address := _ip(each)) is not None
            for target in (_target_of(address),)
        }
        return Answer(Code.NOERROR, servers, tuple(addresses.values()), ZONE)
    found = [address for each in chosen if (address := _ip(each)) is not None]
    return Answer(Code.NOERROR, _addresses(question, name, found), (), ZONE)


def _of_address(question: Question, digits: str) -> Answer:
    kind = _HEX_DIGITS.get(len(digits))
    try:
        address = None if kind is None else kind(bytes.fromhex(digits))
    except ValueError:
        address = None
    if address is None:
        return Answer(Code.NXDOMAIN, zone=ZONE)
    return Answer(Code.NOERROR, _addresses(question, question.name, [address]), (), ZONE)


def _addresses(
    question: Question, name: Name, addresses: Iterable[IPv4Address | IPv6Address]
) -> Sequence[Address]:
    version = _VERSIONS.get(question.kind)
    return [Address(name, each) for each in dict.fromkeys(addresses) if each.version == version]


def _server(name: Name, instance: ServiceInstance) -> Server | None:
    """None: its host is a name that no record can hold."""
    address, found = parse_address(instance.address), _ip(instance)
    target = _target_of(found) if found else tuple(address.host.lower().strip(".").split("."))
    if not all(0 < len(label) <= _LABEL_MAX for label in target) or len(target) > _LABELS_MAX:
        return None
    weight = min(_WEIGHT_MAX, max(0, round(instance.weight)))
    return Server(name, weight, address.port, target)


def _target_of(address: IPv4Address | IPv6Address) -> Name:
    return (address.packed.hex(), "addr", *ZONE)


def _ip(instance: ServiceInstance) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(parse_address(instance.address).host)
    except ValueError:
        return None
