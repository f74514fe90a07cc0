"""What a peer does when it is told to. The suite calls the same things for its own side."""

import asyncio
import contextlib
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from channels.exceptions import ChannelFull

from channels_trunk.testing.layer import Layer, Message, close_layer
from channels_trunk.testing.ledger import numbered

__all__ = ["END", "Commands", "open_files", "storm"]

Addressed = tuple[bool, str, Message]
"""Whether it goes to a group, its name, and the message."""

END: Message = {"type": "end"}
"""The last message for a worker: it stops when it gets it."""


class Commands:
    """The public methods are the commands; arguments and results can be pickled."""

    def __init__(self, layer: Layer, *, patience: float = 1.0) -> None:
        self.layer = layer
        self.patience = patience
        self._listening: dict[str, asyncio.Future[Message]] = {}

    # The layer's own methods

    async def new_channel(self, *prefix: str) -> str:
        """Make one channel."""
        return await self.layer.new_channel(*prefix)

    async def send(self, channel: str, message: Message) -> None:
        """Send one message."""
        await self.layer.send(channel, message)

    async def receive(self, channel: str, *, within: float = 20) -> Message:
        """Receive one message; raises TimeoutError."""
        async with asyncio.timeout(within * self.patience):
            return await self.layer.receive(channel)

    async def group_add(self, group: str, channel: str) -> None:
        """Add a channel to a group."""
        await self.layer.group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group."""
        await self.layer.group_discard(group, channel)

    async def group_send(self, group: str, message: Message) -> None:
        """Send to a group."""
        await self.layer.group_send(group, message)

    async def flush(self) -> None:
        """Flush the layer."""
        await self.layer.flush()

    async def close(self) -> None:
        """Close the layer."""
        await close_layer(self.layer)

    async def call_sync(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of `layer.sync` in a plain thread."""
        return await in_thread(lambda: getattr(self.layer.sync, method)(*arguments, **options))

    # More at once

    async def join(self, group: str, *, count: int = 1) -> list[str]:
        """Make channels and add them to a group."""
        channels = [await self.layer.new_channel() for _ in range(count)]
        for channel in channels:
            await self.layer.group_add(group, channel)
        return channels

    async def flood(self, channel: str, *, count: int, sender: str = "flood", start: int = 0) -> None:
        """Send numbered messages; a full channel is tried again."""
        for number in range(start, start + count):
            await self._send_patiently(channel, numbered(sender, number))

    async def flood_group(self, group: str, *, count: int, sender: str = "flood", pace: int = 1) -> None:
        """Send numbered messages to a group, with a loop turn after each `pace`."""
        for number in range(count):
            await self.layer.group_send(group, numbered(sender, number))
            if number % pace == pace - 1:
                await asyncio.sleep(0)

    async def flood_for_ever(self, channel: str, *, sender: str = "flood") -> None:
        """Send numbered messages until cancelled or killed."""
        number = 0
        while True:
            await self._send_patiently(channel, numbered(sender, number))
            number += 1
            await asyncio.sleep(0)

    async def fill(self, channel: str, *, limit: int) -> int:
        """Send until ChannelFull, `limit` messages at most; return how many were accepted."""
        for count in range(limit):
            try:
                await self.layer.send(channel, numbered("fill", count))
            except ChannelFull:
                return count
            # A loop turn, so that the news of a full channel has a chance to come in.
            await asyncio.sleep(0)
        return limit

    async def has_room(self, channel: str, message: Message) -> bool:
        """Send unless the channel is full; return whether it was accepted."""
        try:
            await self.layer.send(channel, message)
        except ChannelFull:
            return False
        return True

    async def exchange(self, channel: str, message: Message) -> Message | None:
        """Send unless the channel is full, and receive, in no time; None if it was full."""
        return await self.receive(channel) if await self.has_room(channel, message) else None

    async def collect(self, channel: str, *, count: int, within: float = 20) -> list[Message]:
        """Receive up to `count` messages, until none has come for so long; return what came."""
        got: list[Message] = []
        patience, now = within * self.patience, asyncio.get_running_loop().time
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience) as silence:
                while len(got) < count:
                    got.append(await self.layer.receive(channel))
                    silence.reschedule(now() + patience)
        return got

    async def collect_each(self, channels: Sequence[str], *, count: int, within: float = 20) -> list[list[Message]]:
        """Receive up to `count` messages of each channel."""
        return await asyncio.gather(*(self.collect(channel, count=count, within=within) for channel in channels))

    async def work(self, channel: str, *, within: float = 30) -> list[Message]:
        """Receive until END comes, or nothing has come for so long; return what came before it."""
        got: list[Message] = []
        patience, now = within * self.patience, asyncio.get_running_loop().time
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience) as silence:
                while (message := await self.layer.receive(channel)) != END:
                    got.append(message)
                    silence.reschedule(now() + patience)
        return got

    async def storm(self, channel: str, *, count: int, seed: str, within: float = 20) -> list[Message]:
        """Receive up to `count` messages, cancelling receives at random."""
        return await storm(self.layer, channel, count=count, seed=seed, within=within * self.patience)

    async def storm_of_work(self, channel: str, *, seed: str, within: float = 20) -> list[Message]:
        """Do what work() does, cancelling receives at random."""
        return await storm(self.layer, channel, count=None, seed=seed, within=within * self.patience)

    async def churn(self, group: str, *, neighbours: int, seed: str) -> None:
        """Let neighbours join the group, receive a little and leave, over and over, until cancelled."""
        await asyncio.gather(*(self._come_and_go(group, random.Random(f"{seed}/{i}")) for i in range(neighbours)))

    # Steps of programmes: see channels_trunk.testing.model

    async def send_each(self, addressed: Sequence[Addressed], *, how: str) -> list[bool]:
        """Send messages in this order; return of each whether it was taken, which "on commit" does not tell."""
        if how == "on commit":
            await in_thread(lambda: self._commit(addressed))
            return [True] * len(addressed)
        if how == "in one tick":
            # Tasks begin in the order in which they were made.
            return list(await asyncio.gather(*(self._is_taken(message) for message in addressed)))
        if how == "blocking":
            return [await in_thread(lambda message=message: self._is_taken_here(message)) for message in addressed]  # type: ignore[misc]
        return [await self._is_taken(message) for message in addressed]

    async def receive_until(self, channel: str, numbers: Collection[int], *, within: float = 20) -> list[Message]:
        """Receive until messages of all these numbers have come; return what came in time."""
        got: list[Message] = []
        missing = set(numbers)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within * self.patience):
                while missing:
                    got.append(await self.layer.receive(channel))
                    missing.discard(got[-1].get("number", 0))
        return got

    async def read(
        self, channel: str, *, until: Collection[int], count: int, seed: str | None, within: float = 20
    ) -> list[Message]:
        """Receive until `count` of the messages with these numbers have come; return what came in time.

        With a seed, receives are cancelled at random.
        """
        rng = random.Random(seed)
        got: list[Message] = []
        deadline = time.monotonic() + within * self.patience
        while count and time.monotonic() < deadline:
            message = await self._receive_within(channel, 0.05 * rng.random() ** 3 if seed else 0.5)
            if message is not None:
                got.append(message)
                count -= message.get("number") in until
        return got

    async def is_accepted(self, channel: str, message: Message) -> bool:
        """Return whether a channel takes a message now: it has room, and the engine is there."""
        try:
            return await self.has_room(channel, message)
        except Exception:  # noqa: BLE001 - of any layer's client
            return False

    async def _receive_within(self, channel: str, seconds: float) -> Message | None:
        task = asyncio.ensure_future(self.layer.receive(channel))
        try:
            await asyncio.wait([task], timeout=seconds)
        finally:
            task.cancel()
        await asyncio.wait([task])
        return None if task.cancelled() else task.result()

    async def listen(self, channel: str) -> None:
        """Begin to receive from a channel; done when the receive waits."""
        self._listening[channel] = asyncio.ensure_future(self.layer.receive(channel))
        await asyncio.sleep(0)

    async def stop_listening(self, channel: str) -> Message | None:
        """Cancel what listen() began; return its message if it has one by now."""
        task = self._listening.pop(channel)
        task.cancel()
        await asyncio.wait([task])
        return None if task.cancelled() else task.result()

    async def is_reached(self) -> bool:
        """Return whether a message to nobody can be sent now."""
        try:
            await self.layer.group_send("nobody", numbered("nobody", 0))
        except Exception:  # noqa: BLE001 - of any layer's client
            return False
        return True

    def _commit(self, addressed: Sequence[Addressed]) -> None:
        from django.db import connection, transaction
        from django.db.backends.base.base import BaseDatabaseWrapper

        try:
            with transaction.atomic():
                for to_group, name, message in addressed:
                    sync = self.layer.sync
                    (sync.group_send_on_commit if to_group else sync.send_on_commit)(name, message)
        finally:
            # Not connection.close(), which keeps a database in memory open for a thread that ends.
            BaseDatabaseWrapper.close(connection)

    async def _is_taken(self, addressed: Addressed) -> bool:
        to_group, name, message = addressed
        if not to_group:
            return await self.has_room(name, message)
        await self.layer.group_send(name, message)
        return True

    def _is_taken_here(self, addressed: Addressed) -> bool:
        to_group, name, message = addressed
        try:
            (self.layer.sync.group_send if to_group else self.layer.sync.send)(name, message)
        except ChannelFull:
            return False
        return True

    # About the process

    async def pid(self) -> int:
        """Return the process id."""
        return os.getpid()

    async def stats(self) -> Mapping[str, int]:
        """Return the counters of `layer.stats()`."""
        snapshot = self.layer.stats()
        return {name: getattr(snapshot, name) for name in dir(snapshot) if name.endswith("_total")}

    async def threads(self) -> list[str]:
        """Return the names of the process's threads."""
        return [thread.name for thread in threading.enumerate()]

    async def _send_patiently(self, channel: str, message: Message) -> None:
        deadline = time.monotonic() + 20 * self.patience
        while not await self.has_room(channel, message):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{channel} was full for too long")
            await asyncio.sleep(0.001)

    async def _come_and_go(self, group: str, rng: random.Random) -> None:
        while True:
            channel = await self.layer.new_channel()
            await self.layer.group_add(group, channel)
            for _ in range(rng.randrange(4)):
                await receive_or_cancel(self.layer, channel, rng)
            await self.layer.group_discard(group, channel)


async def storm(layer: Layer, channel: str, *, count: int | None, seed: str, within: float = 20) -> list[Message]:
    """Receive with receives that are cancelled at random, up to `count` messages or END; return what came in time."""
    rng = random.Random(seed)
    got: list[Message] = []
    deadline = time.monotonic() + within
    while (count is None or len(got) < count) and time.monotonic() < deadline:
        message = await receive_or_cancel(layer, channel, rng)
        if message == END:
            break
        if message is not None:
            got.append(message)
    return got


async def receive_or_cancel(layer: Layer, channel: str, rng: random.Random) -> Message | None:
    """Start a receive, let it run for a random while, cancel it; return the message if it had one by then."""
    task = asyncio.ensure_future(layer.receive(channel))
    try:
        if rng.random() < 0.1:
            # Long enough for a layer that asks a server.
            await asyncio.wait([task], timeout=rng.random() * 0.02)
        else:
            for _ in range(rng.randrange(5)):
                await asyncio.sleep(0)
    finally:
        task.cancel()
    # Not `await task`: that could not tell its cancellation from the caller's own.
    await asyncio.wait([task])
    return None if task.cancelled() else task.result()


def in_thread(work: Callable[[], Any]) -> Awaitable[Any]:
    """Run `work` in a daemon thread of its own: an executor would wait for ever for a call that hangs."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(outcome: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_exception(error) if error is not None else future.set_result(outcome)

    def run() -> None:
        try:
            outcome, error = work(), None
        except BaseException as caught:  # noqa: BLE001 - it belongs to the caller
            outcome, error = None, caught
        # The rule may have given up, and its loop ended, before the call did.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, outcome, error)

    threading.Thread(target=run, daemon=True, name="suite-call").start()
    return future


def open_files() -> dict[str, str]:
    """Return the open file descriptors of this process and what they point to, where the system tells."""
    listing = Path("/proc/self/fd")
    if not listing.is_dir():
        return {}
    found = {}
    for entry in listing.iterdir():
        try:
            found[entry.name] = str(entry.readlink())
        except OSError:
            continue  # the descriptor of the listing itself
    return found
