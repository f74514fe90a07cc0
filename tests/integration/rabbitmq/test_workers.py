"""Worker channels: what came for a receiver that had gone, and what is done about it at the broker."""

import asyncio

from tests.integration.rabbitmq.conftest import HELLO, MakeLayer

ROUNDS = 25
HELD_SECONDS = 0.02


async def test_what_came_for_nobody_is_not_overtaken(make_layer: MakeLayer) -> None:
    """The consumer has it, nobody takes it, and it goes back: a receiver that comes at that moment finds it first."""
    here, there = make_layer(), make_layer()
    for number in range(ROUNDS):
        waiting = asyncio.ensure_future(here.receive("jobs"))
        await asyncio.sleep(HELD_SECONDS)  # until the broker has a consumer for it
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        for part in range(3):
            await there.send("jobs", {**HELLO, "number": number, "part": part})
        await asyncio.sleep(HELD_SECONDS * (0.6 + 0.4 * number / ROUNDS))
        got = [await asyncio.wait_for(here.receive("jobs"), 10) for _ in range(3)]
        assert [message["part"] for message in got] == [0, 1, 2], f"round {number}"
