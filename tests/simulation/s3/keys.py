"""What clients did to the keys of a bucket and saw of them, and whether that can be.

The value of a key is its entity tag, and every body is another, so what a GET, a HEAD or a listing
says names one write. Of a log, a key that is appended to, the value is its items, all equally long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from octad.chaos.check.linearizability import ANY, INFINITE, Done, Verdict, check, first_violation

ITEM_BYTES = 64


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy of unknown outcome: it may make any of what the source ever was."""

    called: float
    source: str
    target: str


class Keys:
    """See the module. `names` are objects, `logs` are appended to."""

    def __init__(self, names: Sequence[str], logs: Sequence[str]) -> None:
        self.names = names
        self.logs = logs
        self.history: dict[str, list[Done]] = {key: [] for key in (*names, *logs)}
        self.undecided = 0
        self._bodies: dict[str, bytes] = {}  # By entity tag.
        self._tags: dict[bytes, set[str]] = {}  # Of each body: of one in parts there are two.
        self._copied: list[Copied] = []
        self._numbers = 0

    # -- bodies ------------------------------------------------------------------------------------

    def new_body(self, size: int) -> bytes:
        """One that no one has written."""
        self._numbers += 1
        text = b"body %d " % self._numbers
        return (text * (size // len(text) + 1))[: max(size, len(text))]

    def new_item(self) -> tuple[str, bytes]:
        """The name of an item of a log, and its bytes."""
        self._numbers += 1
        name = f"i{self._numbers}"
        return name, f"{name};".ljust(ITEM_BYTES).encode()

    def names_body(self, etag: str, body: bytes) -> str:
        """From now on `etag` is that of `body`; returns it."""
        self._bodies[etag] = body
        self._tags.setdefault(body, set()).add(etag)
        return etag

    def body(self, etag: str) -> bytes:
        return self._bodies[etag]

    def is_known(self, etag: str, body: bytes | None = None) -> bool:
        """Whether somebody has written what has the tag, and that is the body."""
        return etag in self._bodies and body in (None, self._bodies[etag])

    # -- what happens ------------------------------------------------------------------------------

    def write(
        self,
        key: str,
        now: float,
        value: str | None,
        *,
        if_match: str | None = ANY,
        or_absent: bool = False,
    ) -> Done:
        """It is asked for; its end is set when it is known."""
        done = Done(now, INFINITE, True, value, if_match, or_absent=or_absent)
        self.history[key].append(done)
        return done

    def append(self, key: str, now: float, item: str, offset: int) -> Done:
        """At so many bytes."""
        done = Done(now, INFINITE, True, item, appends=True, expected=offset // ITEM_BYTES)
        self.history[key].append(done)
        return done

    def read(self, key: str, called: float, returned: float, value: str | None) -> None:
        self.history[key].append(Done(called, returned, False, value))

    def read_body(self, key: str, called: float, returned: float, body: bytes) -> None:
        """A copy was made of that, and did not tell what entity tag it had."""
        tags = self._tags[body]
        if len(tags) == 1:
            self.read(key, called, returned, *tags)

    def copied(self, called: float, source: str, target: str) -> None:
        """No one knows whether."""
        self._copied.append(Copied(called, source, target))

    def forget(self, key: str, done: Done) -> None:
        """Nothing was done, for a reason that says nothing of the key."""
        self.history[key].remove(done)

    # -- afterwards --------------------------------------------------------------------------------

    def violations(self) -> list[str]:
        """The stories of keys that no order of what happened explains."""
        found = []
        for key, history in self.history.items():
            whole = [*history, *self._copies_to(key)]
            verdict = check(whole, None)
            self.undecided += verdict is Verdict.UNDECIDED
            if verdict is Verdict.VIOLATED:
                story = "\n".join(map(shown, sorted(whole, key=lambda done: done.called)))
                first = first_violation(whole)
                why = "" if first is None else f": {shown(first)}"
                found.append(f"key {key} is not linearizable{why}\n{story}")
        return found

    def _copies_to(self, key: str) -> Iterable[Done]:
        """Of what they may have made, that alone matters which someone asked for or saw."""
        mentioned = {done.value for done in self.history[key]}
        mentioned |= {done.if_match for done in self.history[key]}
        for copied in self._copied:
            if copied.target == key:
                made = {md5_of(self.body(value)) for value in self._values(copied.source)}
                others = sorted(made - mentioned)[:1]
                for etag in sorted(made & mentioned) + others:
                    yield Done(copied.called, INFINITE, True, etag)

    def _values(self, key: str) -> set[str]:
        """All that it may ever have been, copies of copies included."""
        found: set[str] = set()
        sources = [key]
        for source in sources:
            found |= {done.value for done in self.history[source] if done.is_write and done.value}
            more = {copied.source for copied in self._copied if copied.target == source}
            sources += more - set(sources)
        return found


def md5_of(body: bytes) -> str:
    """The entity tag of what is put in one piece."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def items_of(body: bytes) -> str:
    """The items of a log, as its value has them."""
    cut = [body[at : at + ITEM_BYTES] for at in range(0, len(body), ITEM_BYTES)]
    return ",".join(item.rstrip().removesuffix(b";").decode() for item in cut)


def shown(done: Done) -> str:
    """An operation in a line of the story."""
    if not done.is_write:
        what = f"read {done.value}"
    elif done.appends:
        what = f"append {done.value} at item {done.expected}"
    else:
        condition = "" if done.if_match == ANY else f" if {done.if_match}"
        what = f"write {done.value}{condition}"
    return f"{done.called:9.4f} … {done.returned:9.4f} {what}" + " refused" * done.refused


def settled(done: Done, now: float, *, refused: bool = False) -> None:
    """Its outcome is known."""
    done.returned, done.refused = now, refused
