"""What octad's processes log: limited by kind, whatever says it."""

from __future__ import annotations

import asyncio
import io
import logging
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from octad.client.runtime.logs import log_limit
from octad.client.runtime.logs.log_limit import LINES_MAX
from octad.client.runtime.logs.log_lines import LimitedHandler, kind_of

FLOOD = 1000


class Log:
    """A logger whose lines go into text, at a time that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.text = io.StringIO()
        self.handler = LimitedHandler(self.text, lambda: self.now)
        self.logger = logging.getLogger("octad.test_log_lines")

    def lines(self) -> list[str]:
        return self.text.getvalue().splitlines()


@pytest.fixture
def log() -> Iterator[Log]:
    made = Log()
    made.logger.addHandler(made.handler)
    made.logger.propagate = False
    yield made
    made.logger.removeHandler(made.handler)
    made.logger.propagate = True
    made.handler.close()


def test_a_flood_is_ten_lines_and_how_many_were_left_out(log: Log) -> None:
    for number in range(FLOOD):
        log.logger.warning("refused %s: %s", f"10.0.0.{number}", "no such cluster")
    assert len(log.lines()) == LINES_MAX
    log.logger.error("the disk is gone")
    assert log.lines()[-1] == "the disk is gone"
    log.now += 61
    log.logger.error("something else")
    left_out = FLOOD - LINES_MAX
    assert log.lines()[-2:] == [
        f"{left_out} more lines like this were left out within a minute: refused %s: %s",
        "something else",
    ]


def test_a_traceback_counts_with_its_line_and_another_bug_is_another_kind(log: Log) -> None:
    for number in range(FLOOD):
        try:
            raise ValueError(number)
        except ValueError:
            log.logger.exception("a message from %s hit a bug", "n2")
    assert log.text.getvalue().count("Traceback") == LINES_MAX
    try:
        raise ValueError("elsewhere")
    except ValueError:
        log.logger.exception("a message from %s hit a bug", "n2")
    assert log.lines()[-1] == "ValueError: elsewhere"
    log.logger.error("the store: %s", OSError("full"))
    log.logger.error("a request of %s hit a bug", "n2", exc_info=RuntimeError("not raised"))
    assert log.lines()[-1] == "RuntimeError: not raised"


def test_another_error_in_the_same_words_is_another_kind(log: Log) -> None:
    for _ in range(FLOOD):
        log.logger.warning("%s: %r", "PUT /a", TimeoutError())
    log.logger.warning("%s: %r", "PUT /a", OSError("Input/output error"))
    assert log.lines()[-1] == "PUT /a: OSError('Input/output error')"


def test_what_was_left_out_is_said_at_the_end_of_the_process(log: Log) -> None:
    for _ in range(FLOOD):
        log.logger.warning("the configuration store: %s", "no answer")
    log.handler.close()
    assert log.lines()[-1].startswith(f"{FLOOD - LINES_MAX} more lines like this")


def test_what_was_left_out_is_said_where_no_line_follows(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_limit, "MINUTE_S", 0.1)
    log.handler = LimitedHandler(log.text)
    log.logger.handlers[:] = [log.handler]
    for _ in range(FLOOD):
        log.logger.warning("the configuration store: %s", "no answer")
    deadline = time.monotonic() + 10
    while "more lines like this" not in log.text.getvalue():
        assert time.monotonic() < deadline, log.lines()
        time.sleep(0.01)


async def test_what_asyncio_says_of_different_tasks_is_one_kind() -> None:
    kinds = set()

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kinds.add(kind_of(record))

    collect, logger = Collect(), logging.getLogger("asyncio")
    logger.addHandler(collect)
    try:
        for _ in range(3):
            task = asyncio.create_task(asyncio.sleep(0), name=f"connection {id(object())}")
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"lost connection at {hex(id(task))}:{id(task)}", "task": task}
            )
            await task
    finally:
        logger.removeHandler(collect)
    assert [kind.text for kind in kinds] == ["lost connection at #:#"]


def test_errors_that_nobody_can_be_told_of_are_limited_too() -> None:
    program = f"""
from octad.client.runtime.logs.log_lines import set_up_logging
set_up_logging()
class Bad:
    def __del__(self):
        raise ValueError("in a destructor")
for number in range({FLOOD}):
    Bad()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stderr.count("Traceback") == LINES_MAX, done.stderr
    assert f"{FLOOD - LINES_MAX} more lines like this" in done.stderr
