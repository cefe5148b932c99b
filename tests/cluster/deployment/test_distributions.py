"""`octad-client` and `octad`: what each holds, and the line of the README that installs both."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from tests.harness.cluster_process import START_S_MAX
from tests.harness.process_tree import ProcessTree

from octad.chaos.cluster.free_ports import free_port
from octad.client.version import VERSION

pytestmark = [pytest.mark.cluster, pytest.mark.long]

REPOSITORY = Path(__file__).resolve().parents[3]
INSTALL = re.compile(r"^pip install (\./client \.)$", re.MULTILINE)
MINUTES = 60


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is kept in the repository, and nothing else."""
    made = tmp_path_factory.mktemp("clone") / "octad"
    run("git", "clone", "--quiet", str(REPOSITORY), str(made))
    changed = run("git", "-C", str(REPOSITORY), "diff", "--name-only", "HEAD").split()
    for name in changed:
        shutil.copyfile(REPOSITORY / name, made / name)
    return made


@pytest.fixture(scope="module")
def wheels(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both, built as pip builds them."""
    made = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(made), "./client", ".", cwd=clone)
    return made


def run(*command: str, cwd: Path | None = None, code: int = 0) -> str:
    """What it printed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=10 * MINUTES,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def new_environment(directory: Path) -> Path:
    run(sys.executable, "-m", "venv", str(directory))
    return directory / "bin"


def test_each_file_is_in_one_of_them_and_one_requires_the_other(clone: Path, wheels: Path) -> None:
    held = {
        path.name.split("-")[0]: {
            name for name in zipfile.ZipFile(path).namelist() if ".dist-info/" not in name
        }
        for path in wheels.iterdir()
    }
    assert set(held) == {"octad", "octad_client"}
    assert held["octad"] & held["octad_client"] == set()
    parts = {name.split("/")[1] for name in held["octad_client"]}
    assert parts == {"__init__.py", "__main__.py", "client", "sharding"}
    tracked = run("git", "ls-files", "*/octad/*", cwd=clone).split()
    wanted = {name.partition("/")[2] for name in tracked}
    assert held["octad"] | held["octad_client"] == wanted
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert f"octad-client=={VERSION}" in project["dependencies"]


def test_the_slim_one_has_the_sdk_and_says_what_brings_a_server(
    wheels: Path, tmp_path: Path
) -> None:
    there = new_environment(tmp_path / "slim")
    slim = next(wheels.glob("octad_client-*.whl"))
    run(str(there / "pip"), "install", "--quiet", "--disable-pip-version-check", str(slim))
    assert run(str(there / "octad"), "--version") == f"octad {VERSION}\n"
    assert "pip install octad" in run(str(there / "octad"), "dev", code=1)
    used = "import octad; print(octad.Client('http://h', 'k', 's').bucket('b'))"
    assert run(str(there / "python"), "-W", "error", "-c", used) == "Bucket('b')\n"


def test_the_line_in_the_readme_installs_both_from_a_clone(clone: Path, tmp_path: Path) -> None:
    found = INSTALL.search((REPOSITORY / "README.md").read_text())
    assert found is not None
    there = new_environment(tmp_path / "whole")
    pip = str(there / "pip"), "install", "--quiet", "--disable-pip-version-check"
    run(*pip, *found[1].split(), "pytest", cwd=clone)
    (tmp_path / "test_it.py").write_text(
        "def test_it(octad_bucket):\n    octad_bucket.put('k', b'')\n"
    )
    assert "1 passed" in run(str(there / "python"), "-m", "pytest", "-q", cwd=tmp_path)
    assert "--nodes" in run(str(there / "octad"), "dev", "--help")


def test_one_file_is_all_of_it(clone: Path, tmp_path: Path) -> None:
    run("make", "--silent", "octad.pyz", cwd=clone)
    alone = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [sys.executable, "-I", str(clone / "octad.pyz")]
    dev = ("dev", "--nodes", "1", "--data", str(tmp_path / "data"), "--s3-port", str(free_port()))
    tree = ProcessTree([*command, *dev], tmp_path / "log", environment=alone).start()
    try:
        tree.wait_until_it_says("is ready", START_S_MAX)
        assert tree.stop(START_S_MAX) == 0
    finally:
        tree.kill()
