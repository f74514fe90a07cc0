"""Many joins before a measurement, and what takes too long to be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from trunkbench.figures import clock
from trunkbench.layer import Layer
from trunkbench.link import Unmeasurable

TASKS = 32
# A layer whose joins would take longer than this is not waited for.
LIMIT_SECONDS = 30.0
# The first joins open connections; after this the pace can be judged.
JUDGED_AFTER_SECONDS = 2.0


async def join_all(
    layer: Layer, joins: Iterable[tuple[str, str]], *, count: int, within: float = LIMIT_SECONDS
) -> None:
    """Add these channels to these groups from several tasks, or raise Unmeasurable when it would take too long."""
    waiting, done, started = iter(joins), 0, clock()

    async def work(waiting: Iterator[tuple[str, str]]) -> None:
        nonlocal done
        for group, channel in waiting:
            await layer.group_add(group, channel)
            done += 1
            took = clock() - started
            if took > JUDGED_AFTER_SECONDS and (needed := took / done * count) > within:
                raise Unmeasurable(f"{count:,} joins would take {needed:,.0f} s")

    tasks = [asyncio.create_task(work(waiting)) for _ in range(TASKS)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
