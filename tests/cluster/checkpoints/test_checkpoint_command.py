"""`octad checkpoint` against a real cluster."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from tests.harness.cluster_process import OCTAD, DevCluster

from octad import Checkpoints, Client

pytestmark = pytest.mark.cluster

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(cluster: DevCluster, tmp_path: Path) -> Run:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ENDPOINT_URL": cluster.endpoint(),
        "AWS_ACCESS_KEY_ID": cluster.access_key,
        "AWS_SECRET_ACCESS_KEY": cluster.secret_key,
    }

    def run(*words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [OCTAD, "checkpoint", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_each_verb_does_what_it_says(cluster: DevCluster, run: Run, tmp_path: Path) -> None:
    name = f"state-{uuid4().hex[:12]}"
    url = f"s3://{name}/p"
    reach = cluster.endpoint(), cluster.access_key, cluster.secret_key
    with Client(*reach) as client:
        bucket = client.create_bucket(name)
        checkpoints = Checkpoints(url, "job", client=client)
        job = checkpoints.begin()
        made = []
        for number in range(3):
            job.put("state", f"state {number}".encode())
            made.append(job.commit({("t", 0): number}, {"n": number}).id)
        assert run("ls", url) == (0, "job\n", "")
        assert made[2] in run("ls", url, "job")[1].splitlines()[1]
        assert json.loads(run("show", url, "job", "--json")[1])["files"] == {"state": 7}
        assert run("restore", url, "job", "back", "--id", made[1])[0] == 0
        assert (tmp_path / "back" / "state").read_text() == "state 1"
        code, _, said = run("restore", url, "job", "back")
        assert (code, "not empty" in said) == (1, True)
        assert "~ state" in run("diff", url, "job", made[0], made[1])[1]
        assert run("pin", url, "job", made[0], "--label", "for tests")[0] == 0
        assert "1 checkpoint dropped" in run("keep", url, "job", "1")[1]
        checkpoints.begin()  # So that no begin which wrote the rest may be at work.
        would = json.loads(run("gc", url, "--dry-run", "--json")[1])
        assert len(would["objects"]) == 2
        assert would["bytes"] > 0
        assert json.loads(run("gc", url, "--json")[1]) == would
        assert run("audit", url)[0] == 0
        for each in list(bucket.list("p/data/")):
            bucket.delete(each.key)
        code, out, said = run("audit", url)
        assert (code, out.count("lacks p/data/")) == (1, 2), said
        assert run("show", url, "job", "9.9-9")[0] == 4
        assert run("ls", "file:///x")[0] == 2
