"""A process under load, for the ledgers: `python -m tests.integration.rabbitmq.load NAME PEERS SECONDS CONFIG`.

It tells its channel on stdout, reads those of the others from stdin, sends numbered messages to each, directly and by
the group of all, until the time is over. When all have done so and are connected, each sends a last message on each of
its ways, and when these have come prints what it sent and what it received, as JSON. Each line of a ledger is one
sender and one way: there the order must be kept.
"""

import asyncio
import json
import sys
import time
from contextlib import suppress
from typing import Any

from channels.exceptions import ChannelFull

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.layers import RabbitMQChannelLayer
from channels_trunk.testing import eventually

GROUP = "load"
PAUSE = 0.002
# A broker that starts again may take longer than all have sent; and the processes of a loaded machine, too.
PATIENCE = 120


class Load:
    """One process."""

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        self.name = name
        self.layer = RabbitMQChannelLayer(**config)
        self.sent: dict[str, list[int]] = {}  # way to the numbers that send() took
        self.unknown: dict[str, list[int]] = {}  # those for which it raised
        self.received: list[tuple[str, int]] = []
        self.ended: set[str] = set()  # the ways on which the last message has come

    async def receive(self, channel: str) -> None:
        """Until cancelled."""
        while True:
            message = await self.layer.receive(channel)
            if message["type"] == "last":
                self.ended.add(message["way"])
            elif message["type"] == "load":
                self.received.append((message["way"], message["number"]))

    async def send(self, target: str, *, until: float) -> None:
        """Send numbered messages to a channel, or to the group."""
        way = f"{self.name}>{target}"
        sent, unknown = self.sent.setdefault(way, []), self.unknown.setdefault(way, [])
        number = 0
        call = self.layer.group_send if target == GROUP else self.layer.send
        while time.monotonic() < until:
            try:
                await call(target, {"type": "load", "way": way, "number": number})
            except (TransportUnavailable, ChannelFull):
                unknown.append(number)
            else:
                sent.append(number)
            number += 1
            await asyncio.sleep(PAUSE)

    async def end(self, target: str) -> None:
        """Send the last message to a channel, or to the group."""
        call = self.layer.group_send if target == GROUP else self.layer.send

        async def is_sent() -> bool:
            with suppress(TransportUnavailable, ChannelFull):
                await call(target, {"type": "last", "way": f"{self.name}>{target}"})
                return True
            return False

        await eventually(is_sent, within=PATIENCE)


async def main(name: str, peers: int, seconds: float, config: dict[str, Any]) -> None:
    """Play one process's part."""
    load = Load(name, config)
    loop = asyncio.get_running_loop()
    channel = await load.layer.new_channel()
    await load.layer.group_add(GROUP, channel)
    print(channel, flush=True)
    channels: list[str] = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    receiving = asyncio.ensure_future(load.receive(channel))
    until = time.monotonic() + seconds
    await asyncio.gather(*(load.send(target, until=until) for target in [*channels, GROUP]))
    for word in ("sent", "connected"):
        # Not before the others: a group's message is for those that hear the group.
        print(word, flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        await eventually(lambda: load.layer.health().state == "ok", within=PATIENCE)
    await asyncio.gather(*(load.end(target) for target in [*channels, GROUP]))
    await eventually(lambda: len(load.ended) == 2 * peers, within=PATIENCE)
    receiving.cancel()
    stats = load.layer.stats()
    await load.layer.close()
    result = {
        "channel": channel,
        "sent": load.sent,
        "unknown": load.unknown,
        "received": load.received,
        "gaps": stats.gaps_total,
        "reconnects": stats.reconnects_total,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), json.loads(sys.argv[4])))
