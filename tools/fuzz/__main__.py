"""The same bytes both ways into a node, guided by what code they reach: `make fuzz`.

Begins with the corpus of `tests/unit/s3/ways/requests_of_all_kinds.py`; what reaches more code is
kept in `.cache/fuzz/corpus` for the next time. Ends with an error where the two ways differ, or
where one raises; the bytes are then in `.cache/fuzz`, and belong into that corpus once it is
mended. Arguments are libFuzzer's: `-max_total_time=600`, a file to run it alone.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["octad.storage_node.s3", "octad.client.s3"]):
    from tests.unit.s3.ways.requests_of_all_kinds import BODIES, CORPUS, HEADERS, LINES
    from tests.unit.s3.ways.twin_doors import open_doors

CACHE = Path(".cache/fuzz")


def write_beginning() -> list[str]:
    """The corpus and a dictionary as files; returns the arguments that name them."""
    corpus, words = CACHE / "corpus", CACHE / "words.txt"
    corpus.mkdir(parents=True, exist_ok=True)
    for what, sent in CORPUS.items():
        (corpus / what.replace(" ", "-").replace("/", "-")).write_bytes(sent)
    quoted = ["".join(f"\\x{byte:02x}" for byte in word) for word in {*LINES, *HEADERS, *BODIES}]
    words.write_text("".join(f'"{word}"\n' for word in quoted if 0 < len(word) < 400))
    return [f"-dict={words}", f"-artifact_prefix={CACHE}/", "-max_len=4096", "-timeout=20"]


def main() -> None:
    """Runs until it finds something, or until it is told to stop."""
    logging.disable(logging.CRITICAL)
    files = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    options = write_beginning()
    with open_doors() as doors:

        def try_bytes(sent: bytes) -> None:
            doors.compare(sent, ends=len(sent) % 2 == 0)

        arguments = [*options, *sys.argv[1:], *([] if files else [str(CACHE / "corpus")])]
        atheris.Setup([sys.argv[0], *arguments], try_bytes)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
