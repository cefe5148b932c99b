"""Log lines of octad's processes: text for people, or a JSON object a line with OCTAD_LOG=json.

    {"time":"2027-01-15T08:00:00.123Z","level":"warning","logger":"octad.…","message":"…"}

`exception` holds a traceback, where there is one.
"""

from __future__ import annotations

import logging
import os
import time

import msgspec

FORMAT_VARIABLE = "OCTAD_LOG"
FORMATS = ("text", "json")
_TEXT_FORMAT = "%(asctime)s %(name)s: %(message)s"


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


def set_up_logging() -> None:
    """For a process that begins, as the environment asks; text for a format it does not know."""
    wanted = os.environ.get(FORMAT_VARIABLE, "text")
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if wanted == "json" else logging.Formatter(_TEXT_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if wanted not in FORMATS:
        logging.getLogger(__name__).warning(
            "%s=%s is not known: one of %s", FORMAT_VARIABLE, wanted, ", ".join(FORMATS)
        )
