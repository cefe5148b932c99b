"""A background task that dies does not do so in silence."""

from __future__ import annotations

import asyncio

import pytest

from octad.client.runtime.background_task import start_background, stop_background


async def _fails() -> None:
    raise RuntimeError("a bug")


async def test_a_death_is_reported_at_once_and_raised_at_the_stop() -> None:
    reported: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(str(context["message"])))
    task = start_background(_fails(), "the duty")
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert reported == ["the duty died"]
    with pytest.raises(RuntimeError, match="a bug"):
        await stop_background(task)


async def test_a_stop_is_no_death() -> None:
    reported: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(str(context["message"])))
    task = start_background(asyncio.sleep(3600), "the duty")
    await stop_background(task)
    await asyncio.sleep(0)
    assert (task.cancelled(), reported) == (True, [])
