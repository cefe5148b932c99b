"""The records of services' instances, and the messages that register them.

An instance lives as long as its session is renewed; instances of one process share a session, since
they end together. The coordinator preserves fields that it does not know, so that a newer SDK may
add some. Examples: `docs/reference/coordinator-http.md`.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

import msgspec

from octad.client.cluster.unknown_fields import with_unknown_fields
from octad.client.runtime.address import BadAddress, parse_address
from octad.sharding.limits import KIB, NODE_WEIGHT_MAX

SERVICE_TTL_S_MIN = 2.0  # etcd rounds shorter leases up.
SERVICE_TTL_S_MAX = 86_400.0
SERVICE_RECORD_BYTES_MAX = 4 * KIB
SERVICE_LABELS_MAX = 32
CHECK_INTERVAL_S_MIN = 1.0
CHECK_INTERVAL_S_MAX = 3600.0

REGISTRATION_PURPOSE = "service-registration"
SERVICES_PATH = "/cluster/v1/services"
SESSIONS_PATH = "/cluster/v1/sessions"
_NUMBER_MAX = (1 << 63) - 1
WriteNumber = Annotated[int, msgspec.Meta(ge=1, le=_NUMBER_MAX)]
HEALTHS = ("ok", "degraded", "failing")

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_INSTANCE = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_PATH = re.compile(r"/[!-~]{0,255}")
_PORT_MAX = 65_535
_TEXT = re.compile(r"[ -~]{0,128}")


class BadRegistration(ValueError):
    """An unusable registration; the message says what is wrong and what is allowed."""


class InstanceCheck(msgspec.Struct, frozen=True, kw_only=True):
    """How a coordinator finds out whether the instance answers.

    `tcp`: it takes a connection; `http`: a GET of `path` is answered with 200 to 299. `port`: of
    its address, unless named.
    """

    kind: Literal["http", "tcp"]
    path: str = "/"
    port: int | None = None
    interval_s: float = 10.0
    timeout_s: float = 2.0


class ServiceInstance(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of a service. `drain`: it continues, but accepts no new work."""

    service: str
    instance: str
    address: str  # host:port, as others reach it.
    zone: str = ""
    weight: float = 1.0
    version: str = ""
    labels: dict[str, str] = {}
    health: str = "ok"  # One of HEALTHS; a newer octad may know more.
    drain: bool = False
    check: InstanceCheck | msgspec.UnsetType = msgspec.UNSET
    check_passes: bool | msgspec.UnsetType = msgspec.UNSET  # Only coordinators say so.


class SessionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Open a session that lives `ttl_s` past its last renewal.

    `born` is the age of the session that this one replaces; 0: a new one.
    """

    ttl_s: float
    born: Annotated[int, msgspec.Meta(ge=0, le=_NUMBER_MAX)] = 0


class SessionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`session` is the secret for all further requests; `born` its age, the lower the older."""

    session: str
    born: int


class RegisterRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`record` is a ServiceInstance, perhaps with fields of a newer version.

    `session` is one that was opened before; None: a new one that lives `ttl_s` past its last
    renewal. `number` grows with each write of the session: one that comes late changes nothing.
    """

    record: msgspec.Raw
    session: str | None = None
    number: WriteNumber | None = None
    ttl_s: float | None = None


class RegisterAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`revision`: watchers past it have seen the instance.

    `superseded`: they have not, since a newer process at this address has its name.
    """

    session: str
    revision: int
    superseded: bool = False


class WithdrawRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Take one instance away; only the session it lives by may. `number` as in registering."""

    session: str
    number: WriteNumber | None = None


class RenewRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Keep the session alive; returns which of `instances` (`service/instance`) are missing."""

    instances: tuple[str, ...] = ()


class RenewAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`superseded`: a newer process at the same address has these names."""

    superseded: tuple[str, ...] = ()


def is_service_name(text: str) -> bool:
    """Whether a service can be called so."""
    return _NAME.fullmatch(text) is not None


def check_ttl(ttl_s: float) -> None:
    """Raises BadRegistration."""
    if not (math.isfinite(ttl_s) and SERVICE_TTL_S_MIN <= ttl_s <= SERVICE_TTL_S_MAX):
        raise BadRegistration(
            f"a TTL of {ttl_s:g} s: choose from {SERVICE_TTL_S_MIN:.0f} to {SERVICE_TTL_S_MAX:.0f}"
        )


def check_instance(record: ServiceInstance) -> None:
    """Raises BadRegistration."""
    if not is_service_name(record.service):
        raise BadRegistration(
            f"service {record.service[:80]!r}: 1 to 64 letters, digits, dots, dashes, underscores"
        )
    if not _INSTANCE.fullmatch(record.instance):
        raise BadRegistration(
            f"instance {record.instance[:80]!r}: "
            "1 to 128 letters, digits, dots, dashes, underscores, colons"
        )
    _check_address(record.address)
    if not (math.isfinite(record.weight) and 0 <= record.weight <= NODE_WEIGHT_MAX):
        raise BadRegistration(f"weight {record.weight}: from 0 to {NODE_WEIGHT_MAX:.0f}")
    if record.zone and not _NAME.fullmatch(record.zone):
        raise BadRegistration(
            f"zone {record.zone[:80]!r}: up to 64 letters, digits, dots, dashes, underscores"
        )
    if record.health not in HEALTHS:
        raise BadRegistration(f"health {record.health[:80]!r}: one of {', '.join(HEALTHS)}")
    _check_texts(record)
    if record.check is not msgspec.UNSET:
        _check_check(record.check)


def _check_check(check: InstanceCheck) -> None:
    if not _PATH.fullmatch(check.path):
        raise BadRegistration("check: its path begins with / and has up to 256 visible characters")
    if check.port is not None and not 1 <= check.port <= _PORT_MAX:
        raise BadRegistration(f"check: port {check.port}: from 1 to {_PORT_MAX}")
    if not CHECK_INTERVAL_S_MIN <= check.interval_s <= CHECK_INTERVAL_S_MAX:
        raise BadRegistration(
            f"check: every {check.interval_s:g} s: choose from {CHECK_INTERVAL_S_MIN:.0f} to "
            f"{CHECK_INTERVAL_S_MAX:.0f}"
        )
    if not 0 < check.timeout_s <= check.interval_s:
        raise BadRegistration(
            f"check: a timeout of {check.timeout_s:g} s: above 0, up to its interval"
        )


def _check_address(text: str) -> None:
    try:
        address = parse_address(text)
    except BadAddress as error:
        raise BadRegistration(f"address: {error}") from error
    if address.port == 0 or address.is_wildcard:
        raise BadRegistration(
            f"address {text}: no one can connect to it; give a host and a port that others reach"
        )


def _check_texts(record: ServiceInstance) -> None:
    if not _TEXT.fullmatch(record.version):
        raise BadRegistration("version: up to 128 printable ASCII characters")
    if len(record.labels) > SERVICE_LABELS_MAX:
        raise BadRegistration(f"{len(record.labels)} labels: at most {SERVICE_LABELS_MAX}")
    for label, value in record.labels.items():
        if not (_NAME.fullmatch(label) and _TEXT.fullmatch(value)):
            raise BadRegistration(
                f"label {label[:80]!r}: its name is like a service's, "
                "its value has up to 128 printable ASCII characters"
            )


def kept_record(sent: bytes, record: ServiceInstance) -> bytes:
    """The stored form: `record`, with the fields of `sent` that this octad does not know."""
    kept = with_unknown_fields(sent, record)
    if len(kept) > SERVICE_RECORD_BYTES_MAX:
        raise BadRegistration(f"{len(kept)} bytes: at most {SERVICE_RECORD_BYTES_MAX}")
    return kept
