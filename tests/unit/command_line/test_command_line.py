"""The `octad` command: its verbs, and that every mistake is one line with the way out of it."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable
from resource import RUSAGE_CHILDREN, getrusage
from types import ModuleType

import pytest
from tests.unit.tidy.code_base import product

from octad.client.cli import command_line
from octad.client.cli.command_line import EXIT_INTERRUPTED, EXIT_UNREAD, main
from octad.client.cli.verbs import VERBS
from octad.client.runtime.command import EXIT_USAGE, CommandError
from octad.client.version import VERSION

Run = Callable[[argparse.Namespace], int]


class Verb(ModuleType):
    """A verb with two options and a sub-verb with one."""

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
    """Makes `octad try` the only good verb; `needy` and `grey` cannot be loaded."""

    def install(run: Run) -> None:
        verbs = {
            "try": ("verb_for_tests", "does what it is told"),
            "needy": ("needy_for_tests", "needs what is not there"),
            "grey": ("octad.sharding.study.grey_for_tests", "is not there itself"),
        }
        monkeypatch.setitem(sys.modules, "verb_for_tests", Verb(run))
        monkeypatch.setattr(command_line, "VERBS", verbs)

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
    server = "run: pip install octad\n"
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


def test_the_help_lists_every_verb_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = outcome(capsys, "--help")
    assert code == 0
    for verb, (_, explained) in VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(explained)}$", out, re.MULTILINE)
    assert outcome(capsys) == (EXIT_USAGE, out, "")
    assert outcome(capsys, "help")[1] == out


def test_every_verb_of_the_table_is_a_module_and_every_such_module_is_in_the_table() -> None:
    """So a verb whose line was forgotten is missed here, not by its users."""
    other = {"octad.chaos.run.chaos_command", "octad.client.runtime.shown_command"}
    found = {name for name in product() if name.endswith("_command")} - other
    named = [module for module, _ in VERBS.values()]
    assert found == set(named)
    assert len(named) == len(set(named))


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(capsys, "--version") == (0, f"octad {VERSION}\n", "")


@pytest.mark.parametrize("words", [["--help"], ["--version"]], ids=lambda words: words[0])
def test_the_help_and_the_version_take_less_than_60_ms_of_cpu(words: list[str]) -> None:
    """The best of several: what else runs on this machine makes each of them dearer."""
    best_s = min(cpu_s_of([sys.executable, "-m", "octad", *words]) for _ in range(8))
    assert best_s < 0.060


def cpu_s_of(command: list[str]) -> float:
    before = getrusage(RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = getrusage(RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_options_of_verbs_are_shown_without_what_is_slow_to_load() -> None:
    script = (
        "import sys\n"
        "from octad.client.cli.command_line import main\n"
        "for verb in sys.argv[1:]:\n"
        "    try: main([verb, '--help'])\n"
        "    except SystemExit: pass\n"
        "slow = {'aiohttp', 'asyncio', 'cryptography', 'grpc', 'numpy', 'rocksdict'}\n"
        "print(sorted(slow & set(sys.modules)), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", script, *VERBS]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert result.stderr == "[]\n"
    for verb in VERBS:
        assert f"usage: octad {verb} " in result.stdout


def test_python_dash_m_octad_is_the_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "octad", "--version"], capture_output=True, text=True, timeout=30
    )
    assert (result.returncode, result.stdout) == (0, f"octad {VERSION}\n")


def test_a_reader_that_has_gone_is_no_failure_worth_a_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        command = [sys.executable, "-m", "octad", "--help"]
        done = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (EXIT_UNREAD, b"")
