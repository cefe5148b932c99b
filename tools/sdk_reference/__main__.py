"""Writes the reference of the SDK from its docstrings: `python -m tools.sdk_reference`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import octad

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "python-sdk.md"

INTRODUCTION = """# The Python SDK

Made from the docstrings (`python -m tools.sdk_reference`), so it says what help() says.
[Five minutes with it](../tutorials/python-sdk.md) is the place to begin.

`octad.AsyncClient`, `octad.AsyncBucket` have the methods of `octad.Client` and `octad.Bucket`, with
`await`; `list`, `list_folder` and `list_buckets` are for `async for`, `stream` is for `async with`.
So have `octad.AsyncCheckpoints`, `octad.AsyncCheckpointWriter` and `octad.AsyncCheckpoint`, where
`put_stream` is for `async with`.
"""
OTHER_LIBRARIES = """`octad://bucket/key` is known to
[fsspec](../how-to/read-tables-with-pandas-and-duckdb.md), with the arguments of `octad.Client` as
storage options. `octad.ObspecStore(bucket, …)` has all methods of
[obspec](https://developmentseed.org/obspec/) in both faces. [pytest](../how-to/test-with-pytest.md)
finds the fixtures `octad` and `octad_bucket`.
"""
FOR_TESTS = ("self", "runtime", "clock", "chance")
FUNCTIONS = ("boto3_client", "obstore_store")
CLASSES = (
    *("Client", "Bucket", "Object", "ObjectInfo", "Written", "CommonPrefix", "Breaker"),
    *("Checkpoints", "CheckpointWriter", "Checkpoint"),
)
MADE_BY_CALLERS = ("Client", "Breaker", "Checkpoints")
OF_THE_SDK = ("place", "on_blocking_sockets")


def page() -> str:
    """The whole document."""
    parts = [INTRODUCTION]
    for name in CLASSES:
        parts += _class(name)
    parts += ["## `octad.key_value_file`\n", "```text"]
    parts += [f"key_value_file{_signature(octad.key_value_file)}", "```", ""]
    parts += [_text(octad.key_value_file), ""]
    parts.append(f"## Other libraries\n\n{OTHER_LIBRARIES}")
    for name in FUNCTIONS:
        found = getattr(octad, name)
        parts += [f"### `octad.{name}`\n", f"```text\n{name}{_signature(found)}\n```", ""]
        parts += [_text(found), ""]
    parts.append("## Errors\n\n```text")
    parts.append(inspect.getdoc(inspect.getmodule(octad.OctadError)) or "")
    parts.append("```\n")
    for name in octad.__all__:
        found = getattr(octad, name)
        if isinstance(found, type) and issubclass(found, octad.OctadError):
            parts.append(f"- **`octad.{name}`**: {_text(found)}")
    return "\n".join(parts) + "\n"


def _class(name: str) -> list[str]:
    found = getattr(octad, name)
    parts = [f"## `octad.{name}`\n", _text(found), ""]
    if name == "Client":
        parts += [_text(octad.AsyncClient), ""]
    if "__init__" in vars(found) and name in MADE_BY_CALLERS:
        parts += [f"```text\n{name}{_signature(found.__init__)}\n```", ""]
    for member, value in vars(found).items():
        if member.startswith("_") or member in OF_THE_SDK:
            continue
        if isinstance(value, property):
            parts.append(f"**`{member}`** {_text(value)}\n")
        elif inspect.isfunction(value):
            parts += [f"### `{member}`\n", f"```text\n{member}{_signature(value)}\n```", ""]
            parts += [_text(value), ""]
    return parts


class _Written:
    """An annotation, or a value, shown as it is written."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _signature(function: Callable[..., object]) -> str:
    signature = inspect.signature(function)
    parameters = [
        each.replace(
            annotation=_Written(each.annotation),
            default=_Written("...") if each.default is ... else each.default,
        )
        for each in signature.parameters.values()
        if each.name not in FOR_TESTS
    ]
    returns = _Written(signature.return_annotation)
    return str(signature.replace(parameters=parameters, return_annotation=returns))


def _text(found: object) -> str:
    return inspect.getdoc(found) or ""


if __name__ == "__main__":
    PAGE.write_text(page())
