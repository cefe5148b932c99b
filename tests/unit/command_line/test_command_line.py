"""The `octad` command: its verbs, and that every mistake is one line with the way out of it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, version
from types import ModuleType

import pytest

from octad.client.cli import command_line
from octad.client.cli.command_line import (
    EXIT_INTERRUPTED,
    EXIT_UNREAD,
    EXIT_USAGE,
    GROUP,
    main,
)
from octad.client.runtime.command import CommandError

Run = Callable[[argparse.Namespace], int]


class Verb(ModuleType):
    """A verb with two options and a sub-verb with one."""

    HELP = "does what it is told"

    def __init__(self, run: Run) -> None:
        super().__init__("verb_for_tests")
        self.run = run

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--replicas", type=int, choices=(2, 3), default=3)
        parser.add_argument("--json", action="store_true")
        sub_parsers = parser.add_subparsers(dest="sub_verb")
        sub_parsers.add_parser("inspect").add_argument("--verbose", action="store_true")


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], None]:
    """Makes `octad try` the only good verb; `needy`, `grey` and `halved` cannot be loaded."""

    def install(run: Run) -> None:
        points = [
            EntryPoint("try", "verb_for_tests", GROUP),
            EntryPoint("needy", "needy_for_tests", GROUP),
            EntryPoint("grey", "octad.sharding.study.grey_for_tests", GROUP),
        ]
        monkeypatch.setitem(sys.modules, "verb_for_tests", Verb(run))
        monkeypatch.setattr(command_line, "entry_points", lambda group: points)

    return install


def outcome(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_verb_gets_its_arguments_and_gives_the_exit_code(
    verb: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[argparse.Namespace] = []

    def run(arguments: argparse.Namespace) -> int:
        seen.append(arguments)
        return 7

    verb(run)
    assert outcome(capsys, "try", "--replicas", "2") == (7, "", "")
    assert (seen[0].replicas, seen[0].json) == (2, False)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["tri"], "unknown verb 'tri'; did you mean try? see: octad --help"),
        (["xyzzy"], "unknown verb 'xyzzy'; see: octad --help"),
        (["--versoin"], "unknown option '--versoin'; did you mean --version? see: octad --help"),
        (["try", "--replica", "2"],
         "octad try: unknown option '--replica'; did you mean --replicas? see: octad try --help"),
        (["try", "--jsn=1"],
         "octad try: unknown option '--jsn=1'; did you mean --json? see: octad try --help"),
        (["try", "inspect", "--verbos"],
         "octad try: unknown option '--verbos'; did you mean --verbose? see: octad try --help"),
        (["try", "inspect", "surplus"],
         "octad try: unknown argument surplus; see: octad try --help"),
        (["try", "--replicas", "x"],
         "octad try: argument --replicas: invalid int value: 'x'; see: octad try --help"),
        (["try", "--replicas"],
         "octad try: argument --replicas: expected one argument; see: octad try --help"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_the_closest_match_and_the_help_command(
    verb: Callable[[Run], None],
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    line: str,
) -> None:
    verb(lambda _: 0)
    assert outcome(capsys, *words) == (EXIT_USAGE, "", f"octad: {line}\n")


def test_a_verbs_error_is_one_line_and_its_exit_code(
    verb: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: argparse.Namespace) -> int:
        raise CommandError("port 9000 is in use", "choose another --s3-port", 5)

    verb(run)
    line = "octad: port 9000 is in use; choose another --s3-port\n"
    assert outcome(capsys, "try") == (5, "", line)


def test_ctrl_c_is_an_exit_code_and_no_traceback(
    verb: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    verb(run)
    assert outcome(capsys, "try") == (EXIT_INTERRUPTED, "", "")


def test_a_bug_in_a_verb_is_not_hidden(verb: Callable[[Run], None]) -> None:
    def run(_: argparse.Namespace) -> int:
        raise RuntimeError("a bug")

    verb(run)
    with pytest.raises(RuntimeError):
        main(["try"])


def test_a_verb_whose_packages_are_missing_says_what_to_install(
    verb: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: argparse.Namespace) -> int:
        raise ModuleNotFoundError("No module named 'rocksdict'", name="rocksdict.core")

    verb(run)
    server = "run: pip install 'octad[server]'\n"
    assert outcome(capsys, "try") == (
        1,
        "",
        f"octad: octad try needs the package rocksdict; {server}",
    )
    line = f"octad: octad needy needs the package needy_for_tests; {server}"
    assert outcome(capsys, "needy") == (1, "", line)
    assert outcome(capsys, "grey")[2].startswith(
        "octad: octad lacks its own part octad.sharding.study"
    )


def test_the_help_lists_every_verb_also_one_that_cannot_run(
    verb: Callable[[Run], None], capsys: pytest.CaptureFixture[str]
) -> None:
    verb(lambda _: 0)
    code, out, _ = outcome(capsys, "--help")
    assert code == 0
    assert "try    does what it is told" in out
    assert "needy  (octad needy needs the package needy_for_tests; run: pip install" in out
    assert outcome(capsys)[0] == EXIT_USAGE
    assert outcome(capsys, "help")[1] == out


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(capsys, "--version") == (0, f"octad {version('octad')}\n", "")


def test_every_verb_that_is_installed_loads_cheaply_and_explains_itself() -> None:
    """None of them may pull in what is slow to import: the list of verbs loads them all."""
    script = (
        "import sys\n"
        "from octad.client.cli.command_line import main\n"
        "main(['--help'])\n"
        "slow = {'aiohttp', 'asyncio', 'cryptography', 'grpc', 'numpy', 'rocksdict'}\n"
        "print(sorted(slow & set(sys.modules)), file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    assert result.stderr == "[]\n"
    for name in ("coordinator", "status"):
        assert f"\n  {name} " in result.stdout


def test_python_dash_m_octad_is_the_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "octad", "--version"], capture_output=True, text=True, timeout=30
    )
    assert (result.returncode, result.stdout) == (0, f"octad {version('octad')}\n")


def test_a_reader_that_has_gone_is_no_failure_worth_a_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        command = [sys.executable, "-m", "octad", "--help"]
        done = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (EXIT_UNREAD, b"")
