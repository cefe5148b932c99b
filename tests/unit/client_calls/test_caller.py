"""What a call does when nodes answer, refuse, break off or are silent: written connections."""

from __future__ import annotations

import gc
import re

import pytest
from tests.unit.client_http.scripted_transport import Script, ScriptedRuntime

from octad.client.calls.caller import Caller
from octad.client.calls.exchanges import READ_SILENCE_S, Answer
from octad.client.calls.requests import Request
from octad.client.calls.settings import settings_of
from octad.client.errors import (
    BreakerOpen,
    CannotReach,
    ClientClosed,
    DeadlineExceeded,
    ObjectNotFound,
    Overloaded,
    WrongClock,
    WrongKey,
    WrongProtocol,
)
from octad.client.http.blocking import drive
from octad.client.http.transport import ConnectionFailed
from octad.client.resilience.breaker_state import FAILURES_IN_A_ROW
from octad.client.resilience.retry_policy import TOKENS_MAX, TRIES_MAX

REFUSED = OSError("connection refused")
OK = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 5\r\n\r\nhello'
TLS = b"This port speaks TLS, and this was plain HTTP: use https:// for its address."


def answer(status: int, code: str = "", *headers: str) -> bytes:
    body = f"<Error><Code>{code}</Code><Message>because</Message></Error>" if code else ""
    lines = "".join(f"{header}\r\n" for header in headers)
    head = f"HTTP/1.1 {status} X\r\nx-amz-request-id: R\r\n{lines}Content-Length: {len(body)}"
    return f"{head}\r\n\r\n{body}".encode()


def caller_of(
    *, hedge: bool = False, **scripts: list[Script | Exception]
) -> tuple[Caller, ScriptedRuntime]:
    runtime = ScriptedRuntime({name: scripts[name] for name in scripts})
    settings = settings_of(
        ",".join(f"http://{name}:9000" for name in scripts),
        "key",
        "secret",
        coordinator=None,
        region=None,
        authority_file=None,
        deadline_s=60.0,
        hedge=hedge,
        environment={},
    )
    return Caller(settings, runtime), runtime


def get(caller: Caller, deadline_s: float | None = None) -> Answer:
    return drive(caller.whole(Request("GET", "photos", "cat"), deadline_s))


def put() -> Request:
    return Request("PUT", "photos", "cat", body=b"x", checksum=True, invocation="one-id")


def ended_well(caller: Caller) -> bool:
    """Whether no request is counted as under way any more."""
    return all(node.in_flight == 0 for node in caller.node_states())


def test_a_connection_is_used_again() -> None:
    caller, runtime = caller_of(a=[[OK, OK, OK]])
    assert [get(caller).body for _ in range(3)] == [b"hello"] * 3
    assert runtime.attempts == ["a"]
    assert ended_well(caller)


def test_one_that_the_server_closed_meanwhile_is_replaced_without_counting_as_a_failure() -> None:
    caller, runtime = caller_of(a=[[OK], [OK]])
    get(caller)
    assert get(caller).body == b"hello"
    assert runtime.attempts == ["a", "a"]
    assert runtime.slept == []
    assert [node.breaker for node in caller.node_states()] == ["closed"]


def test_a_write_on_such_a_connection_says_that_it_is_sent_again() -> None:
    caller, runtime = caller_of(a=[[OK], [OK]])
    get(caller)
    drive(caller.whole(put()))
    tries = [
        re.findall(rb"amz-sdk-request: attempt=(\d)", b"".join(connection.sent))
        for _, connection in runtime.connections
    ]
    assert tries == [[b"1"], [b"2"]]


def test_every_try_of_a_write_has_the_same_id_and_its_number() -> None:
    caller, runtime = caller_of(a=[[answer(503, "SlowDown"), answer(500), OK]])
    drive(caller.whole(put()))
    sent = b"".join(b"".join(connection.sent) for _, connection in runtime.connections)
    assert re.findall(rb"invocation-id: (\S+)", sent) == [b"one-id"] * 3
    assert re.findall(rb"attempt=(\d)", sent) == [b"1", b"2", b"3"]
    assert ended_well(caller)


def test_a_node_that_is_down_is_passed_over_for_another_one() -> None:
    caller, _ = caller_of(a=[REFUSED], b=[[OK] * 100])
    for _ in range(20):
        assert get(caller).body == b"hello"
    states = {node.address: node.breaker for node in caller.node_states()}
    assert states == {"a:9000": "open", "b:9000": "closed"}


def test_once_its_breaker_is_open_a_node_is_not_even_asked() -> None:
    caller, runtime = caller_of(a=[REFUSED])
    for _ in range(20):
        with pytest.raises((CannotReach, BreakerOpen)):
            get(caller)
        runtime.time = 0.0  # No time passes, in which it would be probed.
    assert len(runtime.attempts) == FAILURES_IN_A_ROW
    with pytest.raises(BreakerOpen, match="not asked for another"):
        get(caller)


def test_a_dead_cluster_sees_no_more_than_a_tenth_more_than_was_asked_for() -> None:
    caller, runtime = caller_of(a=[[answer(500)]])
    calls = 300
    for _ in range(calls):
        runtime.time += 100.0  # Every breaker is ready to probe again: the budget alone holds.
        with pytest.raises(Exception, match="500"):
            get(caller)
    assert len(runtime.attempts) <= calls + TOKENS_MAX


def test_retry_after_is_waited_for() -> None:
    caller, runtime = caller_of(a=[[answer(503, "SlowDown", "Retry-After: 3")], [OK]])
    get(caller)
    assert 3.0 <= runtime.slept[0] <= 3.2


def test_what_will_not_pass_is_not_tried_again() -> None:
    for code, status, error in (
        ("NoSuchKey", 404, ObjectNotFound),
        ("SignatureDoesNotMatch", 403, WrongKey),
        ("RequestTimeTooSkewed", 403, WrongClock),
    ):
        caller, runtime = caller_of(a=[[answer(status, code)]])
        with pytest.raises(error, match="because"):
            get(caller)
        assert runtime.attempts == ["a"]
        assert ended_well(caller)


def test_tries_end() -> None:
    caller, runtime = caller_of(a=[[answer(503, "SlowDown")]], b=[[answer(503, "SlowDown")]])
    with pytest.raises(Overloaded) as failure:
        get(caller)
    assert len(runtime.attempts) == TRIES_MAX
    assert not failure.value.outcome_unknown


def test_the_error_of_a_write_says_whether_it_may_have_been_done() -> None:
    caller, _ = caller_of(a=[[ConnectionFailed("broke")]])
    with pytest.raises(CannotReach, match="may have been done") as failure:
        drive(caller.whole(put()))
    assert failure.value.outcome_unknown
    caller, _ = caller_of(a=[REFUSED])
    with pytest.raises(CannotReach) as nothing:
        drive(caller.whole(put()))
    assert not nothing.value.outcome_unknown


def test_a_silent_node_is_left_for_another_one_and_a_deadline_ends_it_all() -> None:
    caller, runtime = caller_of(a=[[100.0]], b=[[OK] * 9])
    caller_time = []
    for _ in range(2):
        begin = runtime.time
        assert get(caller).body == b"hello"
        caller_time.append(runtime.time - begin)
    assert READ_SILENCE_S <= max(caller_time) < READ_SILENCE_S + 1
    caller, runtime = caller_of(a=[[100.0]])
    with pytest.raises(DeadlineExceeded):
        get(caller, 2.0)
    assert runtime.time == 2.0
    assert ended_well(caller)


def test_a_body_that_breaks_off_is_read_again() -> None:
    caller, _ = caller_of(a=[[OK[:-2]], [OK]])
    assert get(caller).body == b"hello"
    assert ended_well(caller)


def test_a_refusal_behind_a_200_is_one() -> None:
    late = b"<?xml version='1.0'?><Error><Code>InternalError</Code></Error>"
    head = b"HTTP/1.1 200 OK\r\nx-amz-request-id: R\r\nContent-Length: %d\r\n\r\n" % len(late)
    caller, runtime = caller_of(a=[[head + late, OK]])
    slow = Request("POST", "photos", "cat", query="uploadId=1", invocation="i", is_slow=True)
    assert drive(caller.whole(slow)).body == b"hello"
    assert len(runtime.slept) == 1


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        (b"\x15\x03\x03\x00\x02\x02\x46", "use https://"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "check the endpoint"),
        (b"HTTP/1.1 404 X\r\nContent-Length: 9\r\n\r\nnot here\n", "check the endpoint"),
        (b"HTTP/1.1 400 X\r\nContent-Length: %d\r\n\r\n%s" % (len(TLS), TLS), "use https://"),
    ],
)
def test_what_is_no_s3_server_is_named(said: bytes, fix: str) -> None:
    caller, runtime = caller_of(a=[[said]])
    with pytest.raises(WrongProtocol, match=fix):
        get(caller)
    assert runtime.attempts == ["a"]
    assert ended_well(caller)


def test_plain_http_at_a_node_with_tls_is_named() -> None:
    said = answer(400, "BadRequest").replace(b"because", b"TLS, so")
    caller, _ = caller_of(a=[[said]])
    with pytest.raises(WrongProtocol, match="use https://"):
        get(caller)


def test_a_closed_client_says_so_and_leaves_no_connection() -> None:
    caller, runtime = caller_of(a=[[OK, OK]])
    get(caller)
    caller.close()
    caller.close()
    assert all(connection.closed for _, connection in runtime.connections)
    with pytest.raises(ClientClosed):
        get(caller)


def test_a_child_process_uses_none_of_its_parents_connections_and_begins_anew() -> None:
    caller, runtime = caller_of(a=[[OK, OK], [OK]])
    get(caller)
    runtime.move()
    assert get(caller).body == b"hello"
    assert runtime.attempts == ["a", "a"]
    assert len(runtime.connections[0][1].sent) == 1


def test_a_stream_of_before_a_fork_takes_no_byte_that_is_the_parents() -> None:
    caller, runtime = caller_of(a=[[OK[:-2], OK[-2:]]])
    opened = drive(caller.opened(Request("GET", "photos", "cat")))
    assert drive(opened.read_piece()) == b"hel"
    runtime.move()
    with pytest.raises(ConnectionFailed, match="parent"):
        drive(opened.read_piece())


def test_a_call_that_is_given_up_leaves_nothing_open() -> None:
    class GivenUp(BaseException):
        pass

    caller, runtime = caller_of(a=[[OK[:-2], GivenUp()]])  # type: ignore[list-item]
    with pytest.raises(AssertionError):
        get(caller)
    gc.collect()
    assert ended_well(caller)
    assert runtime.connections[0][1].closed


def warmed_up(caller: Caller, count: int = 40) -> None:
    for _ in range(count):
        get(caller)


def test_a_late_read_goes_to_another_node_and_the_first_answer_counts() -> None:
    quick: Script = [0.01, OK] * 30
    caller, runtime = caller_of(hedge=True, a=[[*quick, 3.0, OK]], b=[[*quick, *quick]])
    warmed_up(caller, 60)
    begin = runtime.time
    assert get(caller).body == b"hello"
    assert get(caller).body == b"hello"
    assert runtime.time - begin < 0.2
    assert ended_well(caller)
    late = next(connection for host, connection in runtime.connections if host == "a")
    assert late.closed


def test_without_the_switch_it_waits() -> None:
    quick: Script = [0.01, OK] * 30
    caller, runtime = caller_of(a=[[*quick, 3.0, OK]], b=[[*quick, *quick]])
    warmed_up(caller, 60)
    begin = runtime.time
    get(caller)
    get(caller)
    assert runtime.time - begin >= 3.0
