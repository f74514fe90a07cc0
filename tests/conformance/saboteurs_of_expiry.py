"""Layers that break one rule each about what ends by time."""

from typing import Any

from channels.exceptions import ChannelFull

from tests.conformance.saboteur import Base, Message


class Immortal(Base):
    def __init__(self, **config: Any) -> None:
        super().__init__(**{**config, "expiry": 3600, "group_expiry": 0})


class Forgetful(Base):
    """Takes a normal channel that is full out of its groups, as if nobody were to read it any more."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.groups: dict[str, set[str]] = {}

    async def group_add(self, group: str, channel: str) -> None:
        await super().group_add(group, channel)
        if "!" not in channel:
            self.groups.setdefault(channel, set()).add(group)

    async def send(self, channel: str, message: Message) -> None:
        try:
            await super().send(channel, message)
        except ChannelFull:
            for group in self.groups.pop(channel, ()):
                await super().group_discard(group, channel)
            raise


class Hasty(Base):
    def __init__(self, **config: Any) -> None:
        super().__init__(**{**config, "group_expiry": config["expiry"]})


class Ephemeral(Base):
    def __init__(self, **config: Any) -> None:
        super().__init__(**{**config, "expiry": 0.000001})


class Stubborn(Base):
    """Does not renew memberships."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.known: set[tuple[str, str]] = set()

    async def group_add(self, group: str, channel: str) -> None:
        if (group, channel) not in self.known:
            self.known.add((group, channel))
            await super().group_add(group, channel)
