"""A process is waited for by what this run of it says, and ends with all that it started."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.harness.process_tree import ProcessTree

from octad.chaos.cluster.process import ProcessFailed

WAIT_S = 20.0


def test_words_of_an_earlier_run_do_not_count(tmp_path: Path) -> None:
    process = ProcessTree(["sh", "-c", "echo ready; exec sleep 60"], tmp_path / "log").start()
    process.wait_until_it_says("ready", WAIT_S)
    process.kill()
    process.command = ["sh", "-c", "echo no more"]
    process.start()
    with pytest.raises(ProcessFailed, match="log ended with 0 and has not said 'ready': no more"):
        process.wait_until_it_says("ready", WAIT_S)
    assert (process.said(), process.log.read_text()) == ("no more\n", "ready\nno more\n")


def test_who_ends_with_the_word_has_said_it(tmp_path: Path) -> None:
    process = ProcessTree(["echo", "ready"], tmp_path / "log").start()
    assert process.wait(WAIT_S) == 0
    process.wait_until_it_says("ready", 0)


def test_a_failure_is_one_line_and_a_note_with_all_it_said(tmp_path: Path) -> None:
    process = ProcessTree(["sh", "-c", "echo one; echo two; exec sleep 60"], tmp_path / "n1.log")
    process.start().wait_until_it_says("two", WAIT_S)
    with pytest.raises(ProcessFailed) as caught:
        process.wait_until_it_says("ready", 0)
    process.kill()
    assert str(caught.value) == "n1 has not said 'ready' within 0 s: two"
    assert caught.value.__notes__ == ["one\ntwo"]


def test_to_kill_it_is_to_kill_what_it_started_wherever_that_is_and_frozen_too(
    tmp_path: Path,
) -> None:
    script = "setsid sleep 60 & (setsid sleep 60 &) ; echo ready; wait"
    process = ProcessTree(["sh", "-c", script], tmp_path / "log").start()
    process.wait_until_it_says("ready", WAIT_S)
    assert len(process.pids()) == 3
    assert process.pids()[0] == process.pid
    process.freeze()
    process.kill()
    assert (process.pids(), process.pid, process.runs) == ([], 0, False)
