"""Receivers of several threads take from one mailbox while another thread fills it."""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from channels.exceptions import ChannelFull

from channels_trunk.layers import MemoryChannelLayer
from channels_trunk.testing import eventually

COUNT, END = 20_000, -1


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads take turns after few opcodes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def send(layer: MemoryChannelLayer, channel: str, number: int) -> None:
    while True:
        try:
            return layer.sync.send(channel, {"type": "numbered", "number": number})
        except ChannelFull:
            time.sleep(0)


@pytest.mark.usefixtures("quick_switches")
async def test_each_message_is_had_once_and_each_receiver_has_its_own_in_order() -> None:
    layer = MemoryChannelLayer(capacity=40)
    channel = await layer.new_channel()
    got: list[list[int]] = [[], []]

    async def receive(numbers: list[int]) -> None:
        while (number := (await layer.receive(channel))["number"]) != END:
            numbers.append(number)

    def send_all() -> None:
        for number in [*range(COUNT), *(END for _ in got)]:
            send(layer, channel, number)

    threads = [
        threading.Thread(target=lambda numbers=numbers: asyncio.run(receive(numbers)), daemon=True) for numbers in got
    ]
    threads.append(threading.Thread(target=send_all, daemon=True))
    for thread in threads:
        thread.start()
    await eventually(lambda: not any(thread.is_alive() for thread in threads), within=40)
    await layer.close()
    assert sorted(got[0] + got[1]) == list(range(COUNT))
    for numbers in got:
        assert numbers == sorted(numbers)
