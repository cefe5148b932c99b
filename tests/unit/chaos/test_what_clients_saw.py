"""From a history to a verdict: wrong bytes, lost writes, lists, waits and errors."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octad.chaos.check.stalls import Harm, measure_stalls
from octad.chaos.check.verdict import check_history
from octad.chaos.load.bodies import ForeignBytes, body_of, value_of
from octad.chaos.load.history import (
    ANY,
    ClientRequest,
    Invoked,
    Kind,
    Line,
    Outcome,
    Returned,
    client_requests,
    encode_line,
)

KEY = "small-1"


class Told:
    """A history, told request by request."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def put(self, value: str, begin: float, end: float, outcome: Outcome = Outcome.OK) -> None:
        self._add(Kind.PUT, begin, end, outcome, value=value)

    def put_if(self, stands: str | None, value: str, at: tuple[float, float], status: int) -> None:
        self._add(Kind.PUT, *at, Outcome.OK, value=value, status=status, if_match=stands)

    def get(self, seen: str | None, begin: float, end: float) -> None:
        self._add(Kind.GET, begin, end, Outcome.OK, seen={KEY: seen})

    def failed_get(self, begin: float, end: float, status: int, node: int = 1) -> None:
        self._add(Kind.GET, begin, end, Outcome.FAILED, status=status, node=node)

    def _add(
        self,
        kind: Kind,
        begin: float,
        end: float,
        outcome: Outcome,
        *,
        value: str | None = None,
        seen: dict[str, str | None] | None = None,
        status: int = 200,
        node: int = 1,
        if_match: str | None = ANY,
    ) -> None:
        number = len(self.lines) // 2 + 1
        self.lines.append(Invoked(number, begin, 1, node, kind, (KEY,), value, if_match))
        self.lines.append(Returned(number, end, outcome, status, seen or {}))

    def history(self) -> list[ClientRequest]:
        return client_requests(self.lines)


def test_an_acknowledged_write_that_is_gone_in_the_end_is_a_violation() -> None:
    told = Told()
    told.put("v1", 0, 1)
    told.get("v1", 1, 2)
    assert check_history(told.history()).violations == ()
    told.get(None, 3, 4)
    (violation,) = check_history(told.history()).violations
    assert (violation.what, violation.key) == ("not linearizable", KEY)
    assert "→ #3" in violation.story


@pytest.mark.parametrize(
    ("stands", "status", "allowed"),
    [("v1", 200, True), ("v1", 412, False), ("v0", 412, True), ("v0", 200, False),
     (None, 412, True), (None, 200, False)],
)  # fmt: skip
def test_a_condition_is_met_and_refused_by_what_stands_alone(
    stands: str | None, status: int, allowed: bool
) -> None:
    told = Told()
    told.put("v1", 0, 1)
    told.put_if(stands, "v2", (2, 3), status)
    told.get("v2" if status == 200 else "v1", 4, 5)
    violations = check_history(told.history()).violations
    assert (violations == ()) == allowed


def test_an_update_that_two_made_of_the_same_value_is_a_lost_one() -> None:
    told = Told()
    told.put("v1", 0, 1)
    told.put_if("v1", "v2", (2, 4), 200)
    told.put_if("v1", "v3", (2, 4), 200)
    (violation,) = check_history(told.history()).violations
    assert "if v1" in violation.story


def test_a_write_without_an_answer_may_or_may_not_be_there() -> None:
    for seen in (None, "v1"):
        told = Told()
        told.put("v1", 0, 1, Outcome.UNKNOWN)
        told.get(seen, 2, 3)
        assert check_history(told.history()).violations == ()


def test_a_write_that_was_refused_must_not_show() -> None:
    told = Told()
    told.put("v1", 0, 1, Outcome.FAILED)
    told.get("v1", 2, 3)
    assert [v.what for v in check_history(told.history()).violations] == ["not linearizable"]


def test_a_list_counts_as_a_read_of_every_key() -> None:
    told = Told()
    told.put("v1", 0, 1)
    told.lines.append(Invoked(9, 2, 1, 1, Kind.LIST, (KEY, "small-2")))
    told.lines.append(Returned(9, 3, Outcome.OK, 200, {KEY: None, "small-2": None}))
    assert [v.key for v in check_history(told.history()).violations] == [KEY]


def test_bytes_that_nobody_wrote_are_a_violation() -> None:
    told = Told()
    told.lines.append(Invoked(1, 0, 1, 1, Kind.GET, (KEY,)))
    told.lines.append(Returned(1, 1, Outcome.OK, 200, error="foreign"))
    assert [v.what for v in check_history(told.history()).violations] == ["wrong bytes"]


def test_a_request_without_an_answer_has_an_unknown_outcome() -> None:
    told = Told()
    told.put("v1", 0, 1)
    assert [op.outcome for op in client_requests(told.lines[:1])] == [Outcome.UNKNOWN]


def test_a_wait_lasts_over_failures_to_the_next_success() -> None:
    told = Told()
    told.get(None, 0, 0.1)
    told.failed_get(5.0, 5.5, 503)
    told.failed_get(6.0, 6.5, 503)
    told.get(None, 7.0, 7.25)
    told.get(None, 9.0, 9.1)
    stalls = measure_stalls(told.history(), [])
    assert stalls.longest_read.seconds == pytest.approx(2.25)
    assert stalls.longest_read.begin == 5.0
    assert dict(stalls.errors) == {("get", 503): 2}


def test_nobody_asking_is_no_wait_but_asking_without_end_is() -> None:
    told = Told()
    told.get(None, 0, 0.1)
    told.get(None, 60, 60.1)
    assert measure_stalls(told.history(), []).longest_read.seconds == pytest.approx(0.1)
    told.failed_get(61, 64, 503)
    assert measure_stalls(told.history(), []).longest_read.seconds == pytest.approx(3.0)


def test_a_client_that_turns_to_something_else_waits_no_longer() -> None:
    told = Told()
    told.put("v1", 0, 1, Outcome.UNKNOWN)
    told.get(None, 5, 5.1)
    told.put("v2", 9, 9.5)
    assert measure_stalls(told.history(), []).longest_write.seconds == pytest.approx(1.0)


def test_errors_of_a_node_under_a_fault_are_counted_apart() -> None:
    told = Told()
    told.failed_get(1, 2, 0, node=2)
    told.failed_get(8, 9, 503, node=2)
    stalls = measure_stalls(told.history(), [Harm(2, 1.5, 4)])
    assert dict(stalls.errors_of_harmed) == {("get", 0): 1}
    assert dict(stalls.errors) == {("get", 503): 1}


@given(st.from_regex(r"v[0-9]{1,4}\.[0-9]{1,5}", fullmatch=True), st.integers(32, 5000))
def test_a_body_says_whose_it_is(value: str, size: int) -> None:
    assert value_of(body_of(value, size)) == value


@given(st.integers(64, 5000), st.data())
def test_a_body_with_a_strange_byte_or_a_missing_end_is_nobodys(
    size: int, data: st.DataObject
) -> None:
    body = bytearray(body_of("v1.1", size))
    with pytest.raises(ForeignBytes):
        value_of(bytes(body[: data.draw(st.integers(0, size - 1))]))
    body[data.draw(st.integers(0, size - 1))] ^= 1
    with pytest.raises(ForeignBytes):
        value_of(bytes(body))


def test_a_history_is_a_line_of_json_each() -> None:
    told = Told()
    told.put("v1", 0, 1)
    told.get("v1", 1, 2)
    written = b"".join(map(encode_line, told.lines)).splitlines()
    assert [msgspec.json.decode(line, type=Line) for line in written] == told.lines
