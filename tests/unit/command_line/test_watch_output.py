"""`octad watch` tells people what is there in some lines, and then each change as it comes."""

from __future__ import annotations

import msgspec

from octad.client.core.event_document import NO_VALUE, ClusterEvent, EventsDocument
from octad.client.shell.watch_output import lines_of


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
