"""A task that runs until it is stopped; if it dies of a bug, that is reported at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


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


def _report_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        context = {"message": f"{task.get_name()} died", "exception": error}
        task.get_loop().call_exception_handler(context)
