"""The two processes of the soak test: a sender that keeps a rate, a receiver that keeps the ledger."""

from __future__ import annotations

import asyncio

from channels.exceptions import ChannelFull

from trunkbench.figures import clock
from trunkbench.layer import PATIENCE_SECONDS, Layer, collect, running, settle, until_received
from trunkbench.ledger import Ledger
from trunkbench.link import Link

SENDERS = 8


async def receiver(layer: Layer, link: Link) -> None:
    """Receive and count."""
    channel, ledger = await layer.new_channel(), Ledger(senders=SENDERS)
    await settle(layer, channel)
    async with running([collect(layer, channel, ledger=ledger)]):
        link.tell("ready", channel=channel)
        async for order in link.orders():
            if order.kind == "progress":
                link.tell("progress", count=ledger.received)
                continue
            await until_received(ledger, sum(order.data["sent"]), patience=PATIENCE_SECONDS)
            link.tell("account", account=ledger.close(order.data["sent"]))


class Steady:
    """Sends at a rate by the clock: a delay is caught up, so that the mean holds."""

    def __init__(self, layer: Layer, *, channel: str, rate: float, size: int) -> None:
        self._layer = layer
        self._channel = channel
        self._gap = SENDERS / rate
        self._payload = "x" * size
        self.sent = [0] * SENDERS
        self.refused = 0
        self.ending = False

    async def run(self, sender: int) -> None:
        """One sender task, until the end is near: then its last send has been accepted."""
        started = clock() + sender * self._gap / SENDERS
        while not self.ending:
            due = started + self.sent[sender] * self._gap
            if (early := due - clock()) > 0:
                await asyncio.sleep(early)
            await self._send(sender)

    async def _send(self, sender: int) -> None:
        message = {"type": "soak", "s": sender, "n": self.sent[sender], "payload": self._payload}
        while True:
            try:
                await self._layer.send(self._channel, message)
            except ChannelFull:
                self.refused += 1
                await asyncio.sleep(0.001)
            else:
                self.sent[sender] += 1
                return


async def sender(layer: Layer, link: Link, *, channel: str, rate: float, size: int) -> None:
    """Send until told to end."""
    steady = Steady(layer, channel=channel, rate=rate, size=size)
    link.tell("ready")
    async with asyncio.TaskGroup() as group:
        for index in range(SENDERS):
            group.create_task(steady.run(index))
        async for order in link.orders():
            if order.kind == "end":
                break
            link.tell("progress", count=sum(steady.sent))
        steady.ending = True
    link.tell("ended", sent=steady.sent, refused=steady.refused)
