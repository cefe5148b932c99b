"""The doctor document: what is wrong with a cluster, and what to do about it.

`GET /cluster/v1/doctor`; the most urgent first. `code` is for scripts and does not change; `what`
and `fix` are for people.
"""

from __future__ import annotations

from typing import Literal

import msgspec

DOCTOR_PATH = "/cluster/v1/doctor"

Urgency = Literal["unavailable", "at-risk", "to-do", "note"]
EXIT_CODES: dict[Urgency, int] = {"unavailable": 2, "at-risk": 2, "to-do": 1, "note": 0}


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong, and what would put it right; a note: good to know, nothing to do."""

    code: str
    urgency: Urgency
    what: str
    fix: str


class DoctorDocument(msgspec.Struct, frozen=True):
    """Exit code 0 if there are no findings but notes."""

    findings: tuple[Finding, ...]
    age_s: float


def exit_code(document: DoctorDocument) -> int:
    """0: nothing to do; 1: something; 2: data is unavailable, or the next loss would make it so."""
    return max((EXIT_CODES[finding.urgency] for finding in document.findings), default=0)


def doctor_text(document: DoctorDocument) -> str:
    """Two lines for each finding."""
    told = "".join(
        f"{finding.urgency}: {finding.what}\n    {finding.fix}\n" for finding in document.findings
    )
    return told if exit_code(document) else f"nothing is wrong\n{told}"
