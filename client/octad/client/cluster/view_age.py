"""When a view of the cluster is old, and the warning about it.

A coordinator's view is confirmed by the configuration store every two seconds or so. One whose view
is older is cut off from the store.
"""

from __future__ import annotations

OLD_S = 3.0
_SHOWN_S_MIN = 10.0


def is_old(age_s: float) -> bool:
    """Whether another coordinator may know more."""
    return age_s >= OLD_S


def shown_old_view(age_s: float) -> str | None:
    """A warning for people; None where there is nothing to warn of."""
    if age_s <= _SHOWN_S_MIN:
        return None
    return f"! {age_s:.0f} s old: the configuration store does not answer"
