"""Processes that behave well and badly; a module of its own, as new processes import it."""

from __future__ import annotations

import asyncio
import os

from trunkbench.link import Link


async def answers(_layer: None, link: Link) -> None:
    """Does as it is told."""
    async for order in link.orders():
        link.tell("answer", number=order.data["number"] + 1)


async def fails(_layer: None, link: Link) -> None:
    """Ends in an error."""
    async for _ in link.orders():
        raise ValueError("out of tune")


async def fails_in_a_task(_layer: None, link: Link) -> None:
    """Ends in an error of one of its tasks."""
    async with asyncio.TaskGroup() as group:
        group.create_task(fails(None, link))


async def vanishes(_layer: None, link: Link) -> None:
    """Ends its process at once."""
    async for _ in link.orders():
        os._exit(3)


async def hangs(_layer: None, link: Link) -> None:
    """Never answers nor ends."""
    link.tell("answer", number=0)
    await asyncio.Event().wait()
