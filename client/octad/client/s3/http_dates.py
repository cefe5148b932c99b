"""Dates as S3 writes them, from milliseconds since 1970: seconds in HTTP, milliseconds in XML.

Formatting is cached per second: neighbours in a listing and requests of one second share it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

_CACHED_SECONDS_MAX: Final = 4096
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip
_MILLISECONDS: Final = tuple(f".{ms:03}Z" for ms in range(1000))

# RFC 9110 §5.6.7: what we write, and the two old forms that a recipient must still take. boto3
# signs the first with the zone as in e-mail (RFC 5322).
_IMF_FIXDATE: Final = re.compile(
    r"\w{3}, (?P<day>\d\d) (?P<month>\w{3}) (?P<year>\d{4}) (?P<time>\d\d:\d\d:\d\d)"
    r" (?:GMT|[+-]0000)",
    re.ASCII,
)
_RFC_850: Final = re.compile(
    r"\w{6,9}, (?P<day>\d\d)-(?P<month>\w{3})-(?P<year>\d\d) (?P<time>\d\d:\d\d:\d\d) GMT", re.ASCII
)
_ASCTIME: Final = re.compile(
    r"\w{3} (?P<month>\w{3}) (?P<day>[ \d]\d) (?P<time>\d\d:\d\d:\d\d) (?P<year>\d{4})", re.ASCII
)


def http_date(ms: int) -> str:
    """`Last-Modified`: "Fri, 24 May 2013 00:00:00 GMT"."""
    return _http_date_of_second(ms // 1000)


def iso_date(ms: int) -> str:
    """`LastModified` in XML: "2013-05-24T00:00:00.000Z"."""
    return _iso_date_of_second(ms // 1000) + _MILLISECONDS[ms % 1000]


def amz_date(second: int) -> str:
    """`x-amz-date`: "20130524T000000Z"."""
    return _amz_date_of_second(second)


def parse_amz_date(text: str) -> int | None:
    """The second that "20130524T000000Z" names, or None when it is not such a date."""
    return _second_of_amz_date(text)


def parse_http_date(text: str) -> int | None:
    """The second that an HTTP date names, or None: a bad date is ignored (RFC 9110)."""
    for form in (_IMF_FIXDATE, _RFC_850, _ASCTIME):
        if match := form.fullmatch(text.strip()):
            return _second_of(match["year"], match["month"], match["day"], match["time"])
    return None


def _second_of(year: str, month: str, day: str, time: str) -> int | None:
    if month not in _MONTHS:
        return None
    # Two digits of a year lie within 1970–2069: no stored object is older.
    full_year = int(year) if len(year) == 4 else int(year) + (1900 if int(year) >= 70 else 2000)
    hour, minute, second = (int(part) for part in time.split(":"))
    try:
        moment = datetime(
            full_year, _MONTHS.index(month) + 1, int(day), hour, minute, second, tzinfo=UTC
        )
    except ValueError:
        return None
    return int(moment.timestamp())


@lru_cache(_CACHED_SECONDS_MAX)
def _http_date_of_second(second: int) -> str:
    moment = datetime.fromtimestamp(second, UTC)
    # Not strftime: its names of days and months follow the process's locale.
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{day}, {moment.day:02} {month} {moment.year} {moment:%H:%M:%S} GMT"


@lru_cache(_CACHED_SECONDS_MAX)
def _iso_date_of_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]


@lru_cache(_CACHED_SECONDS_MAX)
def _amz_date_of_second(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y%m%dT%H%M%SZ}"


@lru_cache(_CACHED_SECONDS_MAX)
def _second_of_amz_date(text: str) -> int | None:
    if len(text) != 16 or text[8] != "T" or text[15] != "Z" or not text.isascii():
        return None
    digits = text[:8] + text[9:15]
    if not digits.isdecimal():
        return None
    try:
        moment = datetime(
            int(text[:4]), int(text[4:6]), int(text[6:8]),
            int(text[9:11]), int(text[11:13]), int(text[13:15]), tzinfo=UTC,
        )  # fmt: skip
    except ValueError:
        return None
    return int(moment.timestamp())
