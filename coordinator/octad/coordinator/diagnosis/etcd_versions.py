"""Which etcd versions are old enough to warn of: by their faults that a coordinator meets.

    3.4.31  3.5.13  3.6.0  a leader that was frozen ends leases that were renewed at the next one,
                           and a watch may lose events after a compaction
    3.4.38  3.5.23  3.6.5  a renewal is acknowledged although the lease has ended
    3.4.42  3.5.28  3.6.9  a linearizable read may be old after a member was frozen

Each version is the first without the fault (etcd's change logs); the last row is recommended.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from octad.client.cluster.doctor_document import Finding

RECOMMENDED = ((3, 4, 42), (3, 5, 28), (3, 6, 9))
_VERSION = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})(.*)", re.ASCII | re.DOTALL)


def is_old(version: str) -> bool:
    """Whether `version` has one of the faults; what does not look like etcd's version has none."""
    found = _VERSION.match(version)
    if found is None:
        return False
    number = (int(found[1]), int(found[2]), int(found[3]))
    least = next((each for each in RECOMMENDED if each[:2] == number[:2]), None)
    if least is None:
        return number < RECOMMENDED[0]
    return number < least or (number == least and found[4].startswith("-"))  # A pre-release.


def old_etcd(versions: Mapping[str, str]) -> Iterator[Finding]:
    """One finding for all members (by endpoint)."""
    old = {endpoint: version for endpoint, version in versions.items() if is_old(version)}
    if not old:
        return
    named = ", ".join(f"{version} at {endpoint}" for endpoint, version in sorted(old.items()))
    least = ", ".join(".".join(map(str, number)) for number in RECOMMENDED)
    yield Finding(
        "old-etcd",
        "to-do",
        f"etcd is {named}: after a freeze or a change of its leader, it may end a lease that was"
        " renewed (what is registered is registered again then) or answer a read with what is old",
        f"upgrade etcd, one member after the other, to {least} or newer",
    )
