"""ceph/s3-tests against octad: `make s3-tests DIR=CHECKOUT`.

Everything in `passed.txt` must pass. With `--record` the whole suite runs and the lists are written
anew: what passes is moved to `passed.txt`, what is new and fails goes to the section of
`not-yet.txt` for what no one has looked at yet.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.s3_tests.lists import (
    EXCLUDED,
    NOT_YET,
    PASSED,
    UNSORTED,
    read_list,
    tests_of,
    write_list,
)
from tools.s3_tests.suite import Outcomes, run_suite


def main() -> int:
    parser = argparse.ArgumentParser(prog="make s3-tests", description=__doc__)
    parser.add_argument("suite", type=Path, help="a checkout of ceph/s3-tests")
    parser.add_argument("--record", action="store_true", help="run all, and write the lists anew")
    parser.add_argument("-n", "--processes", type=int, default=2)
    arguments = parser.parse_args()
    if not (arguments.suite / "s3tests").is_dir():
        parser.error(f"{arguments.suite} is no checkout of ceph/s3-tests")
    wanted = tests_of(PASSED)
    tests = [] if arguments.record else sorted(wanted)
    outcomes = run_suite(arguments.suite.resolve(), tests, arguments.processes)
    lost = sorted(test for test in wanted if outcomes.get(test) != "passed")
    if arguments.record:
        record(outcomes)
    print(f"{sum(each == 'passed' for each in outcomes.values())} of {len(outcomes)} passed")
    for test in lost:
        print(f"no longer: {test}: {outcomes.get(test, 'is not in the suite')}")
    return 1 if lost else 0


def record(outcomes: Outcomes) -> None:
    """Write the lists by what happened; a known test of which nothing is reported has failed."""
    passed = {test for test, outcome in outcomes.items() if outcome == "passed"}
    known = set().union(*map(tests_of, (PASSED, NOT_YET, EXCLUDED)))
    write_list(PASSED, {"": sorted(passed)})
    failed = (known | set(outcomes)) - passed
    for path in (EXCLUDED, NOT_YET):
        sections = {
            section: [test for test in tests if test in failed]
            for section, tests in read_list(path).items()
        }
        failed -= {test for tests in sections.values() for test in tests}
        if path == NOT_YET and failed:
            sections[UNSORTED] = [*sections.get(UNSORTED, []), *failed]
        write_list(path, {section: tests for section, tests in sections.items() if tests})


if __name__ == "__main__":
    sys.exit(main())
