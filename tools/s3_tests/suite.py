"""ceph/s3-tests, unpatched, against a cluster of its own: a checkout outside this repository."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import venv
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.harness.cluster_process import OCTAD, DevCluster

# Six identities that the suite wants, and who is each here.
_IDENTITIES = ("s3 main", "s3 alt", "s3 tenant", "iam", "iam root", "iam alt root")
_SECONDS_A_TEST = 60
_RAN_TO_THE_END = (0, 1)  # Of what pytest may exit with; 1: some have failed.
_POOL = "octad-1x"  # One node's first: a place for a bucket that the bucket tells afterwards.
Outcomes = dict[str, str]  # Test to "passed", "failed" or "skipped".


def run_suite(suite: Path, tests: list[str], processes: int) -> Outcomes:
    """The tests as pytest names them, or all of the suite where there are none given."""
    python = _environment(suite)
    with tempfile.TemporaryDirectory(prefix="s3-tests-") as directory:
        work = Path(directory)
        cluster = DevCluster(work, nodes=1, options=("--s3-block-public", "off"))
        try:
            cluster.start()
            (work / "s3tests.conf").write_text(_configuration(cluster))
            report = work / "report.xml"
            chosen = tests or ["s3tests/functional"]
            workers = str(processes) if processes > 1 else "0"  # A lone one is never replaced.
            command: list[str | Path] = [
                *(python, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
                *("--timeout", str(_SECONDS_A_TEST), "-n", workers),
                *("--junitxml", str(report), *chosen),
            ]
            environment = {**os.environ, "S3TEST_CONF": str(work / "s3tests.conf")}
            ended = subprocess.run(command, cwd=suite, env=environment, check=False).returncode
            if ended not in _RAN_TO_THE_END:
                raise SystemExit(f"the suite has not run to its end: pytest ended with {ended}")
            return _outcomes(report)
        finally:
            cluster.kill()


def _environment(suite: Path) -> Path:
    """The Python of an environment with what the suite asks for, beside our other caches."""
    home = Path(".cache/s3-tests").resolve()
    python, installed = home / "bin/python", home / "installed.txt"
    wanted = (suite / "requirements.txt").read_text()
    if not installed.exists() or installed.read_text() != wanted:
        venv.create(home, with_pip=True, clear=True)
        pip: list[str | Path] = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        for wanted_too in ("-r", suite / "requirements.txt"), ("pytest-xdist", "pytest-timeout"):
            subprocess.run([*pip, *wanted_too], check=True)
        installed.write_text(wanted)
    return python


def _configuration(cluster: DevCluster) -> str:
    """`s3tests.conf`: the first key is the main user, each other one is an owner of its own."""
    host, _, port = cluster.nodes[0].s3.partition(":")
    parts = [
        f"[DEFAULT]\nhost = {host}\nport = {port}\nis_secure = False\nssl_verify = False\n",
        "[fixtures]\nbucket prefix = s3t-{random}-",
        "iam name prefix = s3-tests-\niam path prefix = /s3-tests/\n",
    ]
    for identity in _IDENTITIES:
        name = identity.removeprefix("s3 ").replace(" ", "-")
        key = _new_key(cluster, name)
        parts.append(
            f"[{identity}]\ndisplay_name = {key['owner']}\nuser_id = {key['owner_id']}\n"
            f"email = {name}@example.com\napi_name = {_POOL}\ntenant = {name}\n"
            f"access_key = {key['access_key']}\nsecret_key = {key['secret_key']}\n"
        )
    return "\n".join(parts)


def _new_key(cluster: DevCluster, owner: str) -> dict[str, str]:
    command: list[str | Path] = [
        OCTAD,
        "key",
        "create",
        owner,
        "--json",
        "--data",
        str(cluster.data),
    ]
    made = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    key: dict[str, str] = json.loads(made.stdout)
    return key


def _outcomes(report: Path) -> Outcomes:
    """Of a test in which a worker process has died the report may have no more than its time."""
    outcomes: Outcomes = {}
    for case in ET.parse(report).iter("testcase"):
        if "name" not in case.attrib:
            continue
        file = case.attrib["classname"].replace(".", "/")
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "passed"
        name = f"{file}.py::{case.attrib['name']}"
        outcomes[name] = "skipped" if "skipped" in kinds else outcome
    return outcomes
