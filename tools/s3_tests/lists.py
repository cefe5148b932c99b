"""What octad makes of each test of ceph/s3-tests: three lists beside this file.

    passed.txt    must pass
    not-yet.txt   fail, under what they wait for
    excluded.txt  will not pass, under the reason

A line is a test as pytest names it; one in brackets begins a section.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
PASSED, NOT_YET, EXCLUDED = HERE / "passed.txt", HERE / "not-yet.txt", HERE / "excluded.txt"
UNSORTED = "unsorted"


def read_list(path: Path) -> dict[str, list[str]]:
    """Section to tests; what comes before the first section is in ''."""
    sections: dict[str, list[str]] = {}
    section = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            sections.setdefault(section, []).append(line)
    return sections


def write_list(path: Path, sections: dict[str, list[str]]) -> None:
    """The inverse; sections and tests in order of their names."""
    parts: list[str] = []
    for section in sorted(sections):
        tests = sorted(sections[section])
        head = [f"[{section}]"] if section else []
        parts.append("\n".join([*head, *tests]) + "\n")
    path.write_text("\n".join(parts))


def tests_of(path: Path) -> set[str]:
    """All of a list."""
    return {test for tests in read_list(path).values() for test in tests}
