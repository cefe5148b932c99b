"""The page of S3's operations: `docs/reference/s3-operations.md`."""

from __future__ import annotations

from tools.compliance.operations import (
    OF_BEFORE,
    OF_OBJECT_LOCK,
    OF_OTHER_HOSTS,
    ModelOperation,
    model_operations,
)

_HEAD = """# Operations of S3

Made by `.venv/bin/python -m tools.compliance`: every operation of botocore's model of S3, and what
octad answers. Each is tested with a request: that it is served, or is 501 NotImplemented and
changes nothing. Where octad differs from AWS, [the S3 API](s3.md) says how and why.
"""

_S3_TESTS = """
## ceph/s3-tests

What of that suite passes, what waits for something that octad does not have yet, and what is left
out for a reason: `tools/s3_tests/{passed,not-yet,excluded}.txt`. `make s3-tests DIR=CHECKOUT` runs
a checkout of it, unpatched, against a cluster of its own, and fails where what passed does not.
"""


def page() -> str:
    """All of it."""
    operations = list(model_operations())
    parts = [_HEAD]
    for what in ("the service", "buckets", "objects"):
        parts.append(f"\n## Of {what}\n\n| operation | | octad |\n|---|---|---|\n")
        parts += [_line(each) for each in operations if each.what == what]
    served = sum(each.is_served and each.name not in OF_OBJECT_LOCK for each in operations)
    parts.append(f"\n{served} of {len(operations)} are served.\n{_S3_TESTS}")
    return "".join(parts)


def _line(operation: ModelOperation) -> str:
    if operation.name in OF_OTHER_HOSTS:
        answer = f"none: AWS has another host for it ({OF_OTHER_HOSTS[operation.name]})"
    elif not operation.is_served:
        answer = "501"
    elif operation.name in OF_OBJECT_LOCK:
        answer = "refused, as for a bucket without Object Lock"
    elif operation.name in OF_BEFORE:
        answer = f"served, as {OF_BEFORE[operation.name]}"
    else:
        answer = "served"
    return f"| {operation.name} | `{operation.method} {operation.path}` | {answer} |\n"
