"""Log lines of octad's processes: text for people, or a JSON object a line with OCTAD_LOG=json.

    {"time":"2027-01-15T08:00:00.123Z","level":"warning","logger":"octad.…","message":"…"}

`exception` holds a traceback, where there is one. Lines of one kind are limited (`log_limit.py`),
so a log stays readable and small even when a stranger provokes a line again and again.
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import msgspec
from aiohttp.http_exceptions import HttpProcessingError

from octad.client.runtime.logs.log_file import LOG_FILE_VARIABLE, keep_output_bounded
from octad.client.runtime.logs.log_limit import LineKind, LineLimit

FORMAT_VARIABLE = "OCTAD_LOG"
FORMATS = ("text", "json")
_TEXT_FORMAT = "%(asctime)s %(name)s: %(message)s"
_VARYING = re.compile(r"0x[0-9a-f]+|\d+")
_KIND_CHARACTERS_MAX = 200


class LogLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of JSON."""

    time: str
    level: str
    logger: str
    message: str
    exception: str | None = None


class JsonFormatter(logging.Formatter):
    """A record as a `LogLine`."""

    def __init__(self) -> None:
        super().__init__()
        self._encode = msgspec.json.Encoder().encode

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = LogLine(
            f"{seconds}.{int(record.msecs):03d}Z",
            record.levelname.lower(),
            record.name,
            record.getMessage(),
            self.formatException(record.exc_info) if record.exc_info else None,
        )
        return self._encode(line).decode()


class LimitedHandler(logging.StreamHandler[TextIO]):
    """Writes what the limit admits, and how much was left out once a minute of a kind is over."""

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(stream)
        self._clock = clock
        self._limit = LineLimit()
        self._timer: threading.Timer | None = None  # While something is left out.

    def emit(self, record: logging.LogRecord) -> None:
        """`logging` calls it under this handler's lock."""
        now = self._clock()
        if now >= self._limit.next_due:
            self._tell(now)
        if self._limit.admits(kind_of(record), now):
            super().emit(record)
        elif self._timer is None:
            self._tell_later(now)

    def close(self) -> None:
        """Reports the lines left out last, also at the end of the process."""
        if self._timer is not None:
            self._timer.cancel()
        self._tell(math.inf)
        super().close()

    def _tell(self, now: float) -> None:
        for kind, count in self._limit.due(now):
            super().emit(
                logging.LogRecord(
                    *(kind.logger, kind.level, "", 0),
                    "%d more lines like this were left out within a minute: %s",
                    (count, kind.text),
                    None,
                )
            )

    def _tell_later(self, now: float) -> None:
        """Report left-out lines even if no further line follows."""
        self._timer = threading.Timer(self._limit.next_due - now, self._on_time)
        self._timer.daemon = True
        self._timer.start()

    def _on_time(self) -> None:
        self.acquire()
        try:
            self._timer = None
            now = self._clock()
            self._tell(now)
            if self._limit.next_due < math.inf:
                self._tell_later(now)
        finally:
            self.release()


def kind_of(record: logging.LogRecord) -> LineKind:
    """Its logger, level and template, and of errors their type: another one is another kind."""
    text = str(record.msg)
    arguments = record.args if isinstance(record.args, tuple) else ()
    if not arguments:  # Perhaps no template: asyncio puts addresses and names of tasks into it.
        text = _VARYING.sub("#", text.partition("\n")[0][:_KIND_CHARACTERS_MAX])
    for argument in arguments:
        if isinstance(argument, BaseException):
            text += f" [{type(argument).__name__}]"
    if record.exc_info and record.exc_info[1] is not None:
        text += f" [{_raised(record.exc_info[1])}]"
    return LineKind(record.name, record.levelno, text)


def _raised(error: BaseException) -> str:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return type(error).__name__
    file = place.tb_frame.f_code.co_filename.rpartition("/")[2]
    return f"{type(error).__name__} at {file}:{place.tb_lineno}"


def set_up_logging(level: int = logging.INFO) -> None:
    """Set up logging as the environment asks; an unknown format means text."""
    wanted = os.environ.get(FORMAT_VARIABLE, "text")
    handler = LimitedHandler()
    handler.setFormatter(JsonFormatter() if wanted == "json" else logging.Formatter(_TEXT_FORMAT))
    logging.basicConfig(level=level, handlers=[handler])
    sys.unraisablehook = _log_unraisable
    # A client that does not send HTTP gets an error answer; no traceback is needed.
    logging.getLogger("aiohttp.server").addFilter(_is_no_bad_request)
    file = os.environ.get(LOG_FILE_VARIABLE)
    if file is not None:
        keep_output_bounded(Path(file))
    if wanted not in FORMATS:
        logging.getLogger(__name__).warning(
            "%s=%s is not known: one of %s", FORMAT_VARIABLE, wanted, ", ".join(FORMATS)
        )


def _log_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """An error in a place that has no one to raise to; by itself it prints without a bound."""
    logging.getLogger(__name__).error(
        "an error in %r went nowhere", unraisable.object, exc_info=unraisable.exc_value
    )


def _is_no_bad_request(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
