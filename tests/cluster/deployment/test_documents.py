"""Every command in the documents works: each document is run from top to bottom, as a reader would.

A fenced block says by its first words what becomes of it:

    sh           run, in order, in one shell for the whole document
    sh service   started beside the rest; the document goes on once it has printed "ready"
    python       run with the environment's Python
    python clients   run with that in which other people's clients are
    (others)     not run: output to compare with, formats, pictures

A document has a directory of its own that looks like a clone, and its ports (9000 to 9499, and
etcd's) become free ones. The keys that `octad dev` prints are in the environment already.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.cluster.clients.client_environment import client_python
from tests.harness.process_tree import ProcessTree
from tests.harness.s3_clients import environment_of_others

from octad.chaos.cluster.free_ports import free_port
from octad.storage_node.cli.node_options import (
    ADMIN_PORT_ABOVE_S3,
    LOG_PORT_ABOVE_S3,
    RPC_PORT_ABOVE_S3,
)

pytestmark = pytest.mark.cluster

REPOSITORY = Path(__file__).resolve().parents[3]
BLOCK = re.compile(
    r"^```(sh service|sh|python clients|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
PORT = re.compile(r"\b(9[0-4]\d\d|2379|2380)\b")
S3_PORT = 9000
# Taken by a node that is told nothing else.
ABOVE_S3 = (RPC_PORT_ABOVE_S3, ADMIN_PORT_ABOVE_S3, LOG_PORT_ABOVE_S3)
ETCD_PORTS_FROM = 600  # Behind the first free port.
NOT_OF_A_CLONE = (".git", "octad-data", ".cache")
DOCUMENT_S_MAX = 120.0
PATH = f"{REPOSITORY / '.cache' / 'bin'}:{os.environ['PATH']}"

SERVICE = """
( {command} ) >service-{number}.log 2>&1 &
until grep -q ready service-{number}.log; do
  kill -0 $! || {{ cat service-{number}.log; exit 1; }}
  sleep 0.05
done
"""


def documents() -> list[str]:
    """All documents with something to run in them."""
    paths = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]
    paths += sorted((REPOSITORY / "docs").rglob("*.md"))
    return [str(path.relative_to(REPOSITORY)) for path in paths if BLOCK.search(path.read_text())]


def offset_of(port: str) -> int:
    """Where a port of the documents lies behind the first free one."""
    number = int(port)
    return number - S3_PORT if number >= S3_PORT else ETCD_PORTS_FROM + number % 10


def script_of(text: str, first_port: int) -> str:
    """The document as one bash script."""
    script = ["set -euxo pipefail"]
    for number, (kind, block) in enumerate(BLOCK.findall(text)):
        moved = PORT.sub(lambda port: str(first_port + offset_of(port[1])), block)
        moved = moved.replace("octad dev", f"octad dev --s3-port {first_port}")
        moved = moved.replace('make run ARGS="', f'make run ARGS="--s3-port {first_port} ')
        if kind == "sh":
            script.append(moved)
        elif kind.startswith("python"):
            python = client_python() if kind == "python clients" else ".venv/bin/python"
            script.append(f"{python} - <<'PYTHON'\n{moved}PYTHON")
        else:
            script.append(SERVICE.format(command=moved.strip(), number=number))
    return "\n".join(script) + "\n"


def clone_in(directory: Path) -> None:
    """Make `directory` look like the checkout, without copying it."""
    subprocess.run(["make", "--silent", ".venv"], cwd=REPOSITORY, check=True)
    for entry in REPOSITORY.iterdir():
        if entry.name not in NOT_OF_A_CLONE:
            (directory / entry.name).symlink_to(entry)


@pytest.mark.parametrize("document", documents())
def test_every_command_of_a_document_works(document: str, tmp_path: Path) -> None:
    directory = tmp_path / "octad"
    directory.mkdir()
    clone_in(directory)
    text = (REPOSITORY / document).read_text()
    for program in ("etcd", "rclone"):
        if re.search(rf"^{program} ", text, re.MULTILINE) and not shutil.which(program, path=PATH):
            pytest.skip(f"{program} is not installed: apt-get install {program}")
    named = {0, 1, 2, *map(offset_of, PORT.findall(text))}
    beside = {offset + above for offset in named for above in ABOVE_S3}
    first_port = free_port(named | beside)
    script = tmp_path / "document.sh"
    script.write_text(script_of(text, first_port))
    environment = {
        **environment_of_others(),
        "PATH": PATH,
        "ARGS": f"--s3-port {first_port}",
        "OCTAD_ACCESS_KEY": "octad-reader",
        "OCTAD_SECRET_KEY": "octad-reader-secret",
        "AWS_ACCESS_KEY_ID": "octad-reader",
        "AWS_SECRET_ACCESS_KEY": "octad-reader-secret",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "RCLONE_CONFIG": "/dev/null",
        "NO_PROXY": "127.0.0.1",
        "LC_ALL": "C.UTF-8",
    }
    tree = ProcessTree(
        ["bash", script], tmp_path / "log", environment=environment, directory=directory
    ).start()
    try:
        assert tree.wait(DOCUMENT_S_MAX) == 0, tree.said()
    finally:
        tree.kill()
