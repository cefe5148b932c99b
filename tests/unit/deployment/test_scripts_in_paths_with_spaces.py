"""`make .venv` gives scripts that run, wherever the checkout lies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tools.fix_shebangs import main


def script_as_pip_writes_it(directory: Path, interpreter: Path) -> Path:
    script = directory / "aws"
    script.write_text(f"#!{interpreter}\nimport sys\nprint(sys.argv[1:])\n")
    script.chmod(0o755)
    return script


@pytest.mark.parametrize("name", ["with a space", 'it\'s a "path"', "long" * 50])
def test_a_script_runs_in_an_environment_in(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    directory.mkdir()
    python = directory / "python"
    python.symlink_to(sys.executable)
    script = script_as_pip_writes_it(directory, python)
    for _ in range(2):  # Once more changes nothing.
        main(directory)
        done = subprocess.run([script, "s3", "a b"], capture_output=True, text=True, check=True)
        assert done.stdout == "['s3', 'a b']\n"


def test_what_runs_as_it_is_is_left_alone(tmp_path: Path) -> None:
    scripts = {
        "sound": f"#!{sys.executable}\n",
        "with arguments": "#!/usr/bin/env python3\n",
        "no script": "\x7fELF",
        "nothing": "",
    }
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "python").symlink_to(sys.executable)
    main(tmp_path)
    assert {name: (tmp_path / name).read_text() for name in scripts} == scripts
