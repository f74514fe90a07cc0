"""Layers that break one rule each, to show that the suite would notice."""

import asyncio
import contextlib
import os
import threading
from types import SimpleNamespace
from typing import Any

from channels.exceptions import ChannelFull

from channels_trunk.layers.memory import MemoryChannelLayer
from channels_trunk.layers.sqlite import SQLiteChannelLayer
from tests.conformance import saboteurs_of_expiry, saboteurs_of_sync
from tests.conformance.saboteur import Base, Message, held


class Mute(Base):
    async def send(self, channel: str, message: Message) -> None:
        pass

    async def group_send(self, group: str, message: Message) -> None:
        pass


class Losing(Base):
    async def send(self, channel: str, message: Message) -> None:
        if next(self.numbers) % 3:
            await super().send(channel, message)

    async def group_send(self, group: str, message: Message) -> None:
        if next(self.numbers) % 3:
            await super().group_send(group, message)


class Doubling(Base):
    async def send(self, channel: str, message: Message) -> None:
        await super().send(channel, message)
        await super().send(channel, message)

    async def group_send(self, group: str, message: Message) -> None:
        await super().group_send(group, message)
        await super().group_send(group, message)


class Swapping(Base):
    """Sends each second message before the first."""

    kept: tuple[str, Message] | None = None

    async def send(self, channel: str, message: Message) -> None:
        if self.kept is None or self.kept[0] != channel:
            self.kept = channel, message
            return
        kept, self.kept = self.kept, None
        await super().send(channel, message)
        await super().send(*kept)


class Sorting(Base):
    """What is for single channels goes first."""

    async def group_send(self, group: str, message: Message) -> None:
        await asyncio.sleep(0)
        await super().group_send(group, message)


class Jumbling(Base):
    latest = ""

    async def send(self, channel: str, message: Message) -> None:
        await super().send(self.latest or channel, message)
        self.latest = channel


class Twisting(Base):
    async def receive(self, channel: str) -> Message:
        return {**await super().receive(channel), "twisted": True}


class Touching(Base):
    async def send(self, channel: str, message: Message) -> None:
        await super().send(channel, message)
        message["touched"] = True


class Late(Base):
    async def send(self, channel: str, message: Message) -> None:
        asyncio.get_running_loop().call_soon(asyncio.ensure_future, super().send(channel, message))


class Bottomless(Base):
    def __init__(self, **config: Any) -> None:
        super().__init__(**{**config, "capacity": 100_000})


class Sulking(Base):
    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.full: set[str] = set()

    async def send(self, channel: str, message: Message) -> None:
        if channel in self.full:
            raise ChannelFull(channel)
        try:
            await super().send(channel, message)
        except ChannelFull:
            self.full.add(channel)
            raise


class Shouting(Base):
    async def group_send(self, group: str, message: Message) -> None:
        await super().group_send(group, message)
        if next(self.numbers) > 5:
            raise ChannelFull(group)


class Uniform(Base):
    def __init__(self, **config: Any) -> None:
        super().__init__(**{**config, "channel_capacity": None})


class Loyal(Base):
    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.members: dict[str, set[str]] = {}

    async def group_add(self, group: str, channel: str) -> None:
        await super().group_add(group, channel)
        self.members.setdefault(group, set()).add(channel)

    async def group_send(self, group: str, message: Message) -> None:
        for channel in self.members.get(group, ()):
            with contextlib.suppress(ChannelFull):
                await super().send(channel, message)


class Gullible(Base):
    def __init__(self, **config: Any) -> None:
        super().__init__(**{**config, "max_message_size": 2**21})


class Sturdy(Base):
    def __init__(self, **config: Any) -> None:
        super().__init__(**{**config, "resilience": None})


class Mixing(Base):
    def __init__(self, **config: Any) -> None:
        super().__init__(**{**config, "prefix": "same"})


class OwnOnly(Base):
    """Adds only channels that it has made itself."""

    async def group_add(self, group: str, channel: str) -> None:
        if channel in self.own:
            await super().group_add(group, channel)


class Suspicious(Base):
    async def group_discard(self, group: str, channel: str) -> None:
        if channel not in self.own:
            raise KeyError(channel)
        await super().group_discard(group, channel)


class Nostalgic(Base):
    """Names every node that it has ever heard of."""

    known: frozenset[str] = frozenset()

    async def peers(self) -> frozenset[str]:
        self.known |= await super().peers()
        return self.known


class Picky(Base):
    """Discards only what it has added."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.members: set[tuple[str, str]] = set()

    async def group_add(self, group: str, channel: str) -> None:
        self.members.add((group, channel))
        await super().group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self.members.remove((group, channel))
        await super().group_discard(group, channel)


class Sticky(Base):
    async def group_discard(self, group: str, channel: str) -> None:
        pass


class OneGroup(Base):
    group = ""

    async def group_add(self, group: str, channel: str) -> None:
        if self.group:
            await super().group_discard(self.group, channel)
        self.group = group
        await super().group_add(group, channel)


class Lazy(Base):
    async def group_add(self, group: str, channel: str) -> None:
        held.append(asyncio.ensure_future(self._later(group, channel)))

    async def _later(self, group: str, channel: str) -> None:
        await asyncio.sleep(0.05)
        await super().group_add(group, channel)


class Keeping(Base):
    """Hands a group's latest message to those who come later."""

    latest: Message | None = None

    async def group_send(self, group: str, message: Message) -> None:
        Keeping.latest = message
        await super().group_send(group, message)

    async def group_add(self, group: str, channel: str) -> None:
        await super().group_add(group, channel)
        if self.latest is not None:
            await super().send(channel, self.latest)


class Shortening(Base):
    async def group_add(self, group: str, channel: str) -> None:
        await super().group_add(group[:4].lower(), channel)

    async def group_send(self, group: str, message: Message) -> None:
        await super().group_send(group[:4].lower(), message)


class Short(Base):
    async def group_add(self, group: str, channel: str) -> None:
        if len(group) > 50:
            raise TypeError(group)
        await super().group_add(group, channel)


class SameNames(Base):
    async def new_channel(self, prefix: str = "specific") -> str:
        return f"specific.same!{next(self.numbers)}"


class Unflushed(Base):
    async def flush(self) -> None:
        pass


class Deafening(Base):
    deaf = False

    async def flush(self) -> None:
        await super().flush()
        self.deaf = True

    async def send(self, channel: str, message: Message) -> None:
        if self.deaf:
            raise RuntimeError("flushed")
        await super().send(channel, message)


class Nameless(Base):
    extensions = ()  # type: ignore[assignment]


class Purging(Base):
    async def close(self) -> None:
        await super().flush()
        await super().close()


class Buffering(Base):
    """Sends a message when the next one comes."""

    kept: tuple[str, Message] | None = None

    async def send(self, channel: str, message: Message) -> None:
        kept, self.kept = self.kept, (channel, message)
        if kept is not None:
            await super().send(*kept)


class Exhausted(Base):
    closed = False

    async def close(self) -> None:
        await super().close()
        self.closed = True

    async def group_send(self, group: str, message: Message) -> None:
        if self.closed:
            raise RuntimeError("closed")
        await super().group_send(group, message)


class Fragile(Exhausted):
    async def close(self) -> None:
        if self.closed:
            raise RuntimeError("closed")
        await super().close()


class Eager(Base):
    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        held.append(open(os.devnull))  # noqa: SIM115 - held open on purpose


class Clinging(Base):
    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        held.append(self)

    async def close(self) -> None:
        pass


class Threaded(Base):
    async def receive(self, channel: str) -> Message:
        if next(self.numbers) < 5:
            ended = threading.Event()
            threading.Thread(target=ended.wait, daemon=True).start()
            held.append(ended)
        return await super().receive(channel)


class Greedy(Base):
    """Goes on receiving what a cancelled receive() waited for."""

    async def receive(self, channel: str) -> Message:
        task = asyncio.ensure_future(super().receive(channel))
        held.append(task)
        return await asyncio.shield(task)


class Wedging(Base):
    """A cancelled send() keeps others from sending for good."""

    wedged = False

    async def send(self, channel: str, message: Message) -> None:
        if self.wedged:
            raise RuntimeError("wedged")
        try:
            await asyncio.sleep(0)
            await super().send(channel, message)
        except asyncio.CancelledError:
            self.wedged = True
            raise


class FirstKey(Base):
    def __init__(self, **config: Any) -> None:
        super().__init__(**{**config, "symmetric_encryption_keys": config["symmetric_encryption_keys"][:1]})


class Salted(Base):
    def __init__(self, **config: Any) -> None:
        super().__init__(**{**config, "symmetric_encryption_keys": [os.urandom(8).hex()]})


class Counterless(Base):
    def stats(self) -> Any:
        snapshot = super().stats()
        return SimpleNamespace(**{name: 0 for name in dir(snapshot) if name.endswith("_total")})


class Living(Base):
    def stats(self) -> Any:
        return SimpleNamespace(dropped_overflow_total=0)


class Gloomy(Base):
    def health(self) -> Any:
        return SimpleNamespace(state="closed")


def on_memory(saboteur: type[Base]) -> type[Base]:
    """Return the saboteur as a MemoryChannelLayer."""
    return type(saboteur.__name__, (saboteur, MemoryChannelLayer), {})


def on_sqlite(saboteur: type[Base]) -> type[Base]:
    """Return the saboteur as a SQLiteChannelLayer."""
    return type(saboteur.__name__, (saboteur, SQLiteChannelLayer), {})


def __getattr__(name: str) -> Any:
    # For BACKEND: "MemoryLosing", "SQLiteLosing".
    for prefix, mixed in (("Memory", on_memory), ("SQLite", on_sqlite)):
        own = name.removeprefix(prefix)
        others = (getattr(module, own, None) for module in (saboteurs_of_expiry, saboteurs_of_sync))
        if own != name and (saboteur := globals().get(own) or next(filter(None, others), None)):
            globals()[name] = mixed(saboteur)
            return globals()[name]
    raise AttributeError(name)
