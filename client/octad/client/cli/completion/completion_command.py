"""`octad completion bash|zsh|fish`: prints a script that completes verbs and options.

Exit codes: 0 printed, 2 not understood.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="for which shell")


def run(arguments: argparse.Namespace) -> int:
    from octad.client.cli.completion.scripts import bash_script, fish_script, zsh_script
    from octad.client.cli.completion.shapes import shapes

    make = {"bash": bash_script, "zsh": zsh_script, "fish": fish_script}[arguments.shell]
    print(make(shapes()), end="")
    return 0
