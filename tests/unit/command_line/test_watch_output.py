"""`octad watch` tells people what is there in some lines, and then each change as it comes."""

from __future__ import annotations

import msgspec
import pytest

from octad.client.cli.watch_output import age_lines, lines_of, prefix_of
from octad.client.membership.event_document import NO_VALUE, ClusterEvent, EventsDocument
from octad.client.runtime.command import CommandError


def joins(*keys: str) -> tuple[ClusterEvent, ...]:
    return tuple(ClusterEvent("join", key, 4, msgspec.Raw(b'{"a":1}')) for key in keys)


def test_it_opens_with_a_line_for_each_kind_however_much_there_is() -> None:
    shards = [f"shards/0/{number}" for number in range(256)]
    keys = ["leader", "nodes/1", "nodes/2", "services/web/10.0.0.5:80", *shards]
    assert lines_of(EventsDocument(17, True, joins(*keys))) == [
        "17  as of this revision there is:\n",
        "  leader: 1\n",
        "  nodes: 2 (1, 2)\n",
        "  services: 1 (web/10.0.0.5:80)\n",
        "  shards: 256 (0/0, 0/1, 0/2, 0/3, 0/4, …)\n",
        "from here on: + what came, ~ changed, - went (--json shows what is there in full)\n",
    ]


def test_nothing_is_said_to_be_there_where_there_is_nothing() -> None:
    assert lines_of(EventsDocument(3, True))[0] == "3  as of this revision there is nothing\n"


def test_each_change_is_a_line_with_its_value() -> None:
    changes = (*joins("nodes/3"), ClusterEvent("leave", "nodes/1", 5, NO_VALUE))
    assert lines_of(EventsDocument(5, False, changes)) == [
        '4  + nodes/3  {"a":1}\n',
        "5  - nodes/1\n",
    ]


@pytest.mark.parametrize(
    ("words", "prefix"),
    [
        ((), ""),
        (("nodes",), "nodes"),
        (("services/web/",), "services/web/"),
        (("shards/0",), "shards/0"),
        (("leader",), "leader"),
        (("service", "web"), "services/web/"),
    ],
)
def test_what_there_is_can_be_watched(words: tuple[str, ...], prefix: str) -> None:
    assert prefix_of(words) == prefix


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("servces",), "did you mean octad watch services?"),
        (("service",), "of which service?; octad watch service NAME"),
        (("serv",), "'serv' is nothing to watch"),
        (("nodesx",), "did you mean octad watch nodes?"),
        (("services", "web"), "services/NAME/, service NAME"),
        (("keys/",), "'keys/' is nothing to watch"),
        (("leaderx/",), "did you mean octad watch leader?"),
        (("leader/",), "did you mean octad watch leader?"),
        (("service/web",), "did you mean octad watch services?"),
        (("service", "web/"), "no service can be called 'web/'; see which there are"),
        (("service", ""), "no service can be called ''"),
    ],
)
def test_a_typing_mistake_is_not_watched(words: tuple[str, ...], says: str) -> None:
    with pytest.raises(CommandError) as refused:
        prefix_of(words)
    assert says in str(refused.value)
    assert refused.value.exit_code == 2


def test_that_what_is_shown_is_old_is_said_once_and_that_it_is_no_longer_so() -> None:
    said = ["! 12 s old: the configuration store does not answer\n"]
    assert age_lines(12.3, warned=False) == said
    assert age_lines(17.3, warned=True) == []
    assert age_lines(0.4, warned=True) == ["! current again\n"]
    assert age_lines(0.4, warned=False) == []
