"""The `octad` command: finds a verb in the table, runs it, turns errors into one line.

Exit codes: 0 done, 1 failed, 2 not understood, 130 interrupted, 141 when no one reads the output
any more (`octad … | head`); a verb may document others.
Starting fast is a promise (`octad --help` in less than 60 ms of CPU), so this module loads next to
nothing: not even `argparse` before a verb is run, of which only that one's module is loaded.
"""

from __future__ import annotations

import os
import sys

from octad.client.cli.verbs import GROUPS, VERBS
from octad.client.runtime.command import EXIT_USAGE, CommandError, misunderstood
from octad.client.version import VERSION

TYPE_CHECKING = False  # As `typing` has it, which takes as long to load as all of this.
if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141  # As a shell shows a command that SIGPIPE ended.
# What brings the packages that a verb needs. (`octad-client` alone has none of the server.)
_WHOLE = "octad"
_EXTRAS = {"octad.sharding.study": "'octad[study]'"}


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Returns the exit code; never raises what a user could have caused."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # For the last flush.
        return EXIT_UNREAD
    except CommandError as error:
        print(f"octad: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _run(words: list[str]) -> int:
    verb = words[0] if words else "--help"
    if verb in ("--help", "-h", "help"):
        print(_help())
        return 0 if words else EXIT_USAGE
    if verb == "--version":
        print(f"octad {VERSION}")
        return 0
    if verb not in VERBS:
        kind = "option" if verb.startswith("-") else "verb"
        raise misunderstood(
            f"unknown {kind} {verb!r}", verb, [*VERBS, "--help", "--version"], "octad"
        )
    return _run_verb(verb, words[1:])


def _run_verb(verb: str, words: list[str]) -> int:
    module, explained = VERBS[verb]
    try:
        from octad.client.cli.verb_parser import parser_of

        command, parser = parser_of(verb, module, explained)
        parser.refuse_unknown_options(words)
        return command.run(parser.parse_args(words))
    except ModuleNotFoundError as error:
        raise _package_missing(verb, module, error) from error


def _help() -> str:
    width = max(map(len, VERBS))
    lines = []
    for headline, group in GROUPS.items():
        lines += ["", f"{headline}:"]
        lines += [f"  {verb:<{width}}  {explained}" for verb, (_, explained) in group.items()]
    return "\n".join(
        [
            "usage: octad VERB [OPTION...]",
            "",
            "Self-hosted, sharded, replicated S3 object storage and coordination.",
            *lines,
            "",
            "octad VERB --help shows a verb's options; octad --version the version.",
        ]
    )


def _package_missing(verb: str, module: str, error: ModuleNotFoundError) -> CommandError:
    """A verb is installed with octad, but what it needs comes with an extra."""
    missing = error.name or str(error)
    if missing.partition(".")[0] == "octad":
        return CommandError(f"octad lacks its own part {missing}", f"run: pip install {_WHOLE}")
    extra = next((e for prefix, e in _EXTRAS.items() if module.startswith(prefix)), _WHOLE)
    return CommandError(
        f"octad {verb} needs the package {missing.partition('.')[0]}",
        f"run: pip install {extra}",
    )
