"""`octad topic`: make, list, describe, trim and delete topics; fence jobs, pin records.

    octad topic create NAME [--partitions N] [--pool POOL] [--config KEY=VALUE]...
    octad topic ls
    octad topic describe NAME
    octad topic alter NAME [--config KEY=VALUE]... [--default KEY]...
    octad topic why NAME                                  what keeps its first records
    octad topic trim NAME --partition N --before OFFSET
    octad topic fence NAME --job JOB --token N [--partition N]
    octad topic fences NAME [--partition N]
    octad topic pin NAME --partition N --owner OWNER --id ID --offset OFFSET
    octad topic unpin NAME --owner OWNER --id ID [--partition N]
    octad topic pins NAME [--partition N]
    octad topic rm NAME [--force]                         with all of its records

Exit codes: 0 done, 1 refused, or no node answers, 2 not understood, or no key is known.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from octad.client.cli.log.holding import VERBS as HOLDING
from octad.client.cli.log.holding import add_verbs, held
from octad.client.cli.log.log_connection import add_log_options, connected

if TYPE_CHECKING:
    from octad.client.log.log_documents import TopicDocument, WhyDocument
    from octad.client.log.topics_client import TopicsClient


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(
        dest="verb",
        required=True,
        metavar="{create,ls,describe,alter,why,trim,fence,fences,pin,unpin,pins,rm}",
    )
    create = verbs.add_parser("create", help="make a topic")
    create.add_argument("--partitions", metavar="N", type=int, default=1, help="(default: 1)")
    create.add_argument("--pool", metavar="POOL", default="", help="(default: the usual one)")
    verbs.add_parser("ls", help="list the topics of the key's owner")
    describe = verbs.add_parser("describe", help="show a topic and the offsets that it has")
    alter = verbs.add_parser("alter", help="change settings of a topic")
    for verb in (create, alter):
        verb.add_argument(
            "--config", metavar="KEY=VALUE", action="append", default=[], type=_setting
        )
    alter.add_argument("--default", metavar="KEY", action="append", default=[])
    why = verbs.add_parser("why", help="say what keeps the first records of its partitions")
    trim = verbs.add_parser("trim", help="give up the records below an offset")
    trim.add_argument("--partition", metavar="N", type=int, required=True)
    trim.add_argument("--before", metavar="OFFSET", type=int, required=True)
    add_verbs(verbs.add_parser)
    remove = verbs.add_parser("rm", help="delete a topic with all of its records")
    remove.add_argument("--force", action="store_true", help="also one that has pins")
    for verb in (create, describe, alter, why, trim, remove):
        verb.add_argument("topic", metavar="NAME")
    for verb in verbs.choices.values():
        add_log_options(verb)
        verb.add_argument("--json", action="store_true", help="print one JSON document")


def _setting(text: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def run(arguments: argparse.Namespace) -> int:
    with connected(arguments) as client:
        print(_done(client, arguments))
    return 0


def _done(client: TopicsClient, arguments: argparse.Namespace) -> str:
    import msgspec

    from octad.client.http.blocking import drive
    from octad.client.log.log_documents import TopicRequest, TopicsDocument

    name = getattr(arguments, "topic", "")
    match arguments.verb:
        case "create":
            asked = TopicRequest(arguments.partitions, arguments.pool, dict(arguments.config))
            made = drive(client.create(name, asked))
            shown = f"topic {name} is there, with {_partitions(made.partitions)}"
            return msgspec.json.encode(made).decode() if arguments.json else shown
        case "ls":
            topics = drive(client.all())
            if arguments.json:
                return msgspec.json.encode(TopicsDocument(topics)).decode()
            return _table(topics)
        case "describe":
            found = drive(client.describe(name))
            return msgspec.json.encode(found).decode() if arguments.json else _described(found)
        case "alter":
            changes = dict.fromkeys(arguments.default) | dict(arguments.config)
            altered = drive(client.alter(name, changes))
            return msgspec.json.encode(altered).decode() if arguments.json else _settings(altered)
        case "why":
            found_why = drive(client.why(name))
            return msgspec.json.encode(found_why).decode() if arguments.json else _why(found_why)
        case "trim":
            left = drive(client.trim(name, arguments.partition, arguments.before))
            shown = f"partition {left.partition} of {name} begins at offset {left.log_start}"
            return msgspec.json.encode(left).decode() if arguments.json else shown
        case verb if verb in HOLDING:
            return held(client, arguments)
        case _:
            drive(client.delete(name, force=arguments.force))
            return "{}" if arguments.json else f"topic {name} is gone"


def _settings(topic: TopicDocument) -> str:
    shown = ", ".join(f"{key}={value}" for key, value in sorted(topic.config.items()))
    return f"topic {topic.name} has {shown or 'the defaults'}"


def _why(found: WhyDocument) -> str:
    from octad.client.cli.status_table import columns

    rows = [
        (str(each.partition), str(each.log_start), str(each.bytes), hold.by, hold.reason)
        for each in found.partitions
        for hold in each.holds
    ]
    return "\n".join(columns([("PARTITION", "FIRST", "BYTES", "BY", "BECAUSE"), *rows]))


def _partitions(count: int) -> str:
    return f"{count} partition{'' if count == 1 else 's'}"


def _table(topics: tuple[TopicDocument, ...]) -> str:
    from octad.client.cli.status_table import columns

    if not topics:
        return "there is no topic; make one: octad topic create NAME"
    rows = [(each.name, str(each.partitions), str(each.pool), each.uuid) for each in topics]
    return "\n".join(columns([("TOPIC", "PARTITIONS", "POOL", "UUID"), *rows]))


def _described(topic: TopicDocument) -> str:
    from octad.client.cli.status_table import columns

    rows = [
        (str(each.partition), str(each.log_start), str(each.next_offset), str(each.bytes))
        for each in topic.offsets
    ]
    head = f"topic {topic.name} of {topic.owner}, {_partitions(topic.partitions)}, {topic.uuid}"
    table = columns([("PARTITION", "FIRST", "NEXT", "BYTES"), *rows])
    return "\n".join([head, *([_settings(topic)] if topic.config else ()), *table])
