"""A background task that dies does not do so in silence."""

from __future__ import annotations

import asyncio

import pytest

from octad.client.runtime.background_task import run_together, start_background, stop_background


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


async def test_when_one_of_several_fails_the_others_have_ended_before_it_is_raised() -> None:
    ended: list[str] = []

    async def goes_on() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            ended.append("the other")

    with pytest.raises(RuntimeError, match="a bug"):
        await run_together(goes_on(), _fails())
    assert ended == ["the other"]


async def test_none_of_several_outlives_their_caller() -> None:
    together = asyncio.create_task(run_together(asyncio.sleep(3600), asyncio.sleep(3600)))
    await asyncio.sleep(0.01)
    together.cancel()
    await asyncio.wait([together])
    assert together.cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}
