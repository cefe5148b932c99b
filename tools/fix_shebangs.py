"""Makes an environment's scripts run where its path has a space in it, or is very long.

    .venv/bin/python tools/fix_shebangs.py .venv/bin

pip writes `#!/the path/.venv/bin/python` into scripts that a package brings ready-made, awscli's
`aws` for one, and the kernel ends the interpreter's name at the first space. As pip does for the
scripts that it makes itself, they get a line that the shell and Python both can read.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

SHEBANG_BYTES_MAX = 127  # What every kernel and shell reads.


def fix(script: Path) -> bool:
    """Whether it had to be fixed."""
    first, newline, rest = script.read_bytes().partition(b"\n")
    interpreter = first.removeprefix(b"#!").decode("utf-8", "replace")
    if not (first.startswith(b"#!/") and newline and Path(interpreter).is_file()):
        return False  # No script, or one of an interpreter that is given arguments.
    if " " not in interpreter and len(first) <= SHEBANG_BYTES_MAX:
        return False
    shell = f"#!/bin/sh\n'''exec' {shlex.quote(interpreter)} \"$0\" \"$@\"\n' '''\n"
    script.write_bytes(shell.encode() + rest)
    return True


def main(directory: Path) -> None:
    for script in sorted(directory.iterdir()):
        if script.is_file() and not script.is_symlink():
            fix(script)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
