"""A process under load: `python -m tests.integration.postgres.load_process DSN NAME`.

It makes a channel in the group `everyone` and says its name; is told the channels of all; then sends numbered messages
to each of them, to the group (every other one from a plain thread) and to the normal channel `jobs` until it is told to
stop, and receives all the while.
Then it says, in one line of JSON, which numbers its sends were sure of, which raised, and what it received.
"""

import asyncio
import json
import signal
import sys
from collections import defaultdict
from typing import Any

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.layers import PostgresChannelLayer

GROUP, JOBS = "everyone", "jobs"
WORKERS = 2
# Every so many messages one that no notification can hold.
LARGE_EVERY = 10
LARGE = "x" * 9_000
END = {"type": "end"}
LIFETIME = 600  # whatever hangs


class Load:
    """Streams are named by their sender and target; a stream's last message says so."""

    def __init__(self, layer: PostgresChannelLayer, name: str) -> None:
        self.layer = layer
        self.name = name
        self.channel = ""
        self.stopping = asyncio.Event()
        self.sure: dict[str, list[int]] = defaultdict(list)
        self.raised: dict[str, list[int]] = defaultdict(list)
        self.received: dict[str, list[int]] = defaultdict(list)
        self.jobs: list[tuple[str, int]] = []

    async def stream(self, stream: str, target: str) -> None:
        """Send numbers until it is over, and then one that says so, as often as it takes."""
        number = 0
        while not self.stopping.is_set():
            await self._one(stream, target, number)
            number += 1
        if target != JOBS:
            while not await self._one(stream, target, number, last=True):
                number += 1

    async def _one(self, stream: str, target: str, number: int, *, last: bool = False) -> bool:
        message: dict[str, Any] = {"type": "load", "stream": stream, "number": number, "last": last}
        if number % LARGE_EVERY == 0:
            message["body"] = LARGE
        try:
            if target != GROUP:
                await self.layer.send(target, message)
            elif number % 2:
                await self.layer.group_send(GROUP, message)
            else:
                await asyncio.to_thread(self.layer.sync.group_send, GROUP, message)
        except TransportUnavailable:
            self.raised[stream].append(number)
            return False
        self.sure[stream].append(number)
        return True

    async def receive(self, streams: set[str]) -> None:
        """Receive until each stream has come to its end."""
        while streams:
            message = await self.layer.receive(self.channel)
            self.received[message["stream"]].append(message["number"])
            if message["last"]:
                streams.discard(message["stream"])

    async def work(self) -> None:
        """Do jobs until there is one that says it is the last."""
        while (message := await self.layer.receive(JOBS)) != END:
            self.jobs.append((message["stream"], message["number"]))


async def main(dsn: str, name: str) -> None:
    """See above."""
    layer = PostgresChannelLayer(dsn=dsn, capacity=1_000_000, send_timeout=20)
    load = Load(layer, name)
    load.channel = await layer.new_channel()
    await layer.group_add(GROUP, load.channel)
    _say(load.channel)
    channels: dict[str, str] = json.loads(await _told())
    targets = {other: channel for other, channel in channels.items() if other != name}
    incoming = {f"{other}>{name}" for other in targets} | {f"{other}>{GROUP}" for other in channels}
    receiver = asyncio.create_task(load.receive(incoming))
    workers = [asyncio.create_task(load.work()) for _ in range(WORKERS)]
    senders = [asyncio.create_task(load.stream(f"{name}>{other}", channel)) for other, channel in targets.items()]
    senders += [asyncio.create_task(load.stream(f"{name}>{target}", target)) for target in (GROUP, JOBS)]
    await _told()
    load.stopping.set()
    await asyncio.gather(*senders)
    _say("sent")
    await asyncio.gather(*workers, receiver)
    gaps = layer.stats().gaps_total
    await layer.close()
    _say(
        json.dumps(
            {"sure": load.sure, "raised": load.raised, "received": load.received, "jobs": load.jobs, "gaps": gaps}
        )
    )


async def _told() -> str:
    return await asyncio.to_thread(sys.stdin.readline)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    signal.alarm(LIFETIME)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
