"""What a loop leaves behind that ends while it steps aside."""

import asyncio
import threading

import pytest

from channels_trunk.hub import supervisor
from channels_trunk.layers import MemoryChannelLayer

COUNT = 9


async def test_what_a_loop_was_to_deliver_in_its_next_turn_is_delivered_though_it_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sender's loop delivers; it stops in front of a mailbox that fills, as the receiver needs its turn."""
    monkeypatch.setattr(supervisor, "_SWEEP_EVERY", 0.02)
    here, there = (MemoryChannelLayer(prefix="left-behind", capacity=10) for _ in range(2))
    channel = await there.new_channel()
    await there.group_add("room", channel)
    await here.group_send("nobody", {"type": "n"})  # from now on its senders publish themselves
    receiving = asyncio.create_task(there.receive(channel))
    await asyncio.sleep(0)

    async def send() -> None:
        await asyncio.gather(*(here.group_send("room", {"type": "n", "n": n}) for n in range(COUNT)))

    thread = threading.Thread(target=asyncio.run, args=(send(),), daemon=True)
    thread.start()
    thread.join(20)  # this loop, the receiver's, stands still meanwhile
    async with asyncio.timeout(20):
        got = [(await receiving)["n"]]
        while len(got) < COUNT:
            got.append((await there.receive(channel))["n"])
    assert got == list(range(COUNT))
    for layer in (here, there):
        await layer.close()
