"""Another node as a rule sees it, and the kind that is a layer object in a thread with a loop of its own."""

import abc
import asyncio
import concurrent.futures
import threading
from collections.abc import Sequence
from typing import Any

from channels_trunk.testing.commands import Commands
from channels_trunk.testing.layer import Message

__all__ = ["PATIENCE", "Peer", "ThreadPeer"]

PATIENCE = 30.0
_STREAM = 5  # so many times as long as one message all that are collected may take
LEAST_PATIENCE = 2.0  # a process needs some time to answer, however little its layer is trusted


class Peer(abc.ABC):
    """Another node, which does what it is told: see Commands for what there is."""

    patience: float
    """What seconds of waiting are multiplied with."""

    @abc.abstractmethod
    def start(self, command: str, *arguments: Any, **options: Any) -> asyncio.Future[Any]:
        """Begin a command; the future has its outcome, and cancelling it cancels the command."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """Close the layer and end in good order; raises TimeoutError if it does not end."""

    async def call(self, command: str, *arguments: Any, patience: float = PATIENCE, **options: Any) -> Any:
        """Return the outcome of a command; raises TimeoutError after `patience` seconds."""
        patience = self.limit(patience)
        future = self.start(command, *arguments, **options)
        try:
            return await asyncio.wait_for(future, patience)
        except TimeoutError:
            if future.cancelled():
                raise TimeoutError(f"the peer did not answer to {command} within {patience:g} s") from None
            raise

    def limit(self, seconds: float = PATIENCE) -> float:
        """Return how long to wait for the peer where a trusted one is given `seconds`."""
        return max(LEAST_PATIENCE, seconds * self.patience)

    # The commands that rules use most: what Commands calls by the same name does, there.

    async def new_channel(self) -> str:
        """Make one channel."""
        return str(await self.call("new_channel"))

    async def send(self, channel: str, message: Message) -> None:
        """Send one message."""
        await self.call("send", channel, message)

    async def receive(self, channel: str, *, within: float = 20) -> Message:
        """Receive one message; raises TimeoutError."""
        message: Message = await self.call("receive", channel, within=within)
        return message

    async def group_add(self, group: str, channel: str) -> None:
        """Add a channel to a group."""
        await self.call("group_add", group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group."""
        await self.call("group_discard", group, channel)

    async def group_send(self, group: str, message: Message) -> None:
        """Send to a group."""
        await self.call("group_send", group, message)

    async def join(self, group: str, *, count: int = 1) -> list[str]:
        """Make channels and add them to a group."""
        channels: list[str] = await self.call("join", group, count=count)
        return channels

    async def has_room(self, channel: str, message: Message) -> bool:
        """Send unless the channel is full; return whether it was accepted."""
        return bool(await self.call("has_room", channel, message))

    async def collect(self, channel: str, *, count: int, within: float = 20) -> list[Message]:
        """Receive up to `count` messages, until none has come for so long; return what came."""
        patience = _STREAM * within
        got: list[Message] = await self.call("collect", channel, count=count, within=within, patience=patience)
        return got

    async def collect_each(self, channels: Sequence[str], *, count: int, within: float = 20) -> list[list[Message]]:
        """Receive up to `count` messages of each channel."""
        patience = _STREAM * within
        got: list[list[Message]] = await self.call(
            "collect_each", channels, count=count, within=within, patience=patience
        )
        return got


class ThreadPeer(Peer):
    """A layer object of its own in a thread with a loop of its own."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self.patience = commands.patience
        self._running: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        self._stopping: asyncio.Event
        self._closed: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, name="suite-peer", daemon=True)
        self._thread.start()
        self._loop = self._running.result(PATIENCE)

    def start(self, command: str, *arguments: Any, **options: Any) -> asyncio.Future[Any]:
        """Run the command in the peer's loop."""
        coroutine = getattr(self._commands, command)(*arguments, **options)
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    async def stop(self) -> None:
        """Close the layer and end the loop."""
        if not self._closed.done():
            self._loop.call_soon_threadsafe(self._stopping.set)
        await asyncio.wait_for(asyncio.wrap_future(self._closed), self.limit())
        self._thread.join(self.limit())

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - stop() raises it
            self._closed.set_exception(error)
        else:
            self._closed.set_result(None)

    async def _main(self) -> None:
        self._stopping = asyncio.Event()
        self._running.set_result(asyncio.get_running_loop())
        await self._stopping.wait()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._commands.close()
