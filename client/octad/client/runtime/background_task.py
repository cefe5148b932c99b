"""Tasks that run until they are stopped; if one dies of a bug, that is reported at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable


def start_background(work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
    """`work` as a task; it is meant not to end."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_report_death)
    return task


async def stop_background(task: asyncio.Task[None]) -> None:
    """Returns once it has ended; raises what it died of."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def run_together(*works: Coroutine[object, object, None]) -> None:
    """Returns once all have ended. If one fails, or this is cancelled, none runs on.

    `asyncio.gather` leaves the others running when it raises what the first died of.
    """
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        await stop_all(tasks)


async def stop_all(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel them, and wait until they have ended, however they do."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _report_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        context = {"message": f"{task.get_name()} died", "exception": error}
        task.get_loop().call_exception_handler(context)
