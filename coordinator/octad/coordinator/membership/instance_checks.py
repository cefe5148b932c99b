"""What the coordinator's check of an instance has shown, in the instance's own record.

The owner never writes it: what it says of itself replaces the record and keeps what was found, as
long as the same thing is checked at the same address.
"""

from __future__ import annotations

import msgspec

from octad.client.cluster.service_records import ServiceInstance

_FIELD = "check_passes"


def judged(value: bytes, passes: bool) -> bytes:
    """The record `value`, with what was found; fields that this octad does not know stay."""
    record = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({**record, _FIELD: passes})


def told_of(value: bytes) -> bool | None:
    """What was found, as the record has it; None: nothing yet."""
    told = msgspec.json.decode(value, type=ServiceInstance).check_passes
    return None if told is msgspec.UNSET else told


def carried_over(value: bytes, record: ServiceInstance, before: bytes) -> bytes:
    """The new `value` of `record`, with what was found of the one before, if that holds for it."""
    try:
        former = msgspec.json.decode(before, type=ServiceInstance)
    except msgspec.DecodeError:
        return value
    if former.check_passes is msgspec.UNSET or record.check is msgspec.UNSET:
        return value
    if (former.check, former.address) != (record.check, record.address):
        return value
    return judged(value, former.check_passes)
