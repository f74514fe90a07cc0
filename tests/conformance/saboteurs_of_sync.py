"""Layers whose `layer.sync` breaks one rule each."""

import copy
import os
from typing import Any

from channels_trunk.aside import is_within
from channels_trunk.layers.sync import SyncChannelLayer
from tests.conformance.saboteur import Base, Message, held


class SyncMute(Base):
    @property
    def sync(self) -> Any:
        return _Mute(self)


class _Mute(SyncChannelLayer):
    def send(self, channel: str, message: Message) -> None:
        pass

    def group_send(self, group: str, message: Message) -> None:
        pass


class SyncSwapping(Base):
    kept: Message | None = None

    @property
    def sync(self) -> Any:
        return _Swapping(self)


class _Swapping(SyncChannelLayer):
    def send(self, channel: str, message: Message) -> None:
        layer: Any = self._layer
        kept, layer.kept = layer.kept, copy.copy(message)
        super().send(channel, kept or message)


class SyncOpening(Base):
    @property
    def sync(self) -> Any:
        held.append(open(os.devnull))  # noqa: SIM115 - held open on purpose
        return SyncChannelLayer(self)


class SyncSkewed(Base):
    @property
    def sync(self) -> Any:
        return _Skewed(self)


class _Skewed(SyncChannelLayer):
    def send(self, name: str, message: Message) -> None:
        super().send(name, message)


class SyncReturning(Base):
    @property
    def sync(self) -> Any:
        return _Returning(self)


class _Returning(SyncChannelLayer):
    def receive(self, channel: str, timeout: float | None = None) -> Message:
        try:
            return super().receive(channel, timeout)
        except TimeoutError:
            return {}


class SyncHanging(Base):
    @property
    def sync(self) -> Any:
        return _Hanging(self)


class _Hanging(SyncChannelLayer):
    def flush(self) -> None:
        pass


class SyncDropping(Base):
    """What cannot wait is not sent at all."""

    @property
    def sync(self) -> Any:
        return _Dropping(self)


class _Dropping(SyncChannelLayer):
    def group_send(self, group: str, message: Message) -> None:
        if not is_within():
            super().group_send(group, message)


class SyncObliging(Base):
    """It says that it has done what it cannot do."""

    @property
    def sync(self) -> Any:
        return _Obliging(self)


class _Obliging(SyncChannelLayer):
    def group_add(self, group: str, channel: str) -> None:
        if not is_within():
            super().group_add(group, channel)
