"""The SDK's reference and its two faces say the same as the code."""

from __future__ import annotations

import inspect

import pytest
from tools.sdk_reference.__main__ import PAGE, page

from octad import (
    AsyncBucket,
    AsyncCheckpoint,
    AsyncCheckpoints,
    AsyncCheckpointWriter,
    AsyncClient,
    Bucket,
    Checkpoint,
    Checkpoints,
    CheckpointWriter,
    Client,
)


def test_the_reference_is_made_from_the_docstrings_as_they_are() -> None:
    assert PAGE.read_text() == page(), "run: python -m tools.sdk_reference"


@pytest.mark.parametrize(
    ("blocking", "asynchronous"),
    [
        (Client, AsyncClient),
        (Bucket, AsyncBucket),
        (Checkpoints, AsyncCheckpoints),
        (CheckpointWriter, AsyncCheckpointWriter),
        (Checkpoint, AsyncCheckpoint),
    ],
)
def test_both_faces_have_the_same_methods_with_the_same_arguments(
    blocking: type, asynchronous: type
) -> None:
    assert _methods(blocking) == _methods(asynchronous)


def _methods(face: type) -> dict[str, list[tuple[str, object]]]:
    return {
        name: [(each.name, each.default) for each in inspect.signature(member).parameters.values()]
        for name, member in vars(face).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }
