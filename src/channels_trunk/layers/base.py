"""The public face of every layer: checks, packs, and hands over to the hub."""

import asyncio
import sys
import threading
import weakref
from collections.abc import Coroutine
from typing import Any, ClassVar

from asgiref.sync import markcoroutinefunction
from channels.exceptions import ChannelFull, MessageTooLarge
from channels.layers import BaseChannelLayer

from channels_trunk.aside import WITHIN, Within
from channels_trunk.codec import Codec
from channels_trunk.codec.encryption import make_cipher
from channels_trunk.exceptions import ChannelLayerError
from channels_trunk.health import Health
from channels_trunk.hub import Hub, HubOptions, MustWait, Refused
from channels_trunk.names import check_channel, check_group, new_node_id
from channels_trunk.options import CORE_OPTIONS, Option, make_capacity_of, read_options
from channels_trunk.router import ANSWER_WITHIN
from channels_trunk.stats import LayerStats
from channels_trunk.transports.base import Transport

from .examined import Examined
from .forking import watch_forks
from .on_commit import OnCommit
from .resilience import Resilience
from .sync import SyncChannelLayer
from .test_databases import refuse_if_dropped, watch_test_databases

__all__ = ["TrunkChannelLayer", "new_future"]


class TrunkChannelLayer(Examined, BaseChannelLayer):
    """What all layers of channels-trunk share; see the specification, "Channel Layer Specification", of Channels.

    One object may be used from many event loops at once, from threads without a loop, and after a fork. Making it does
    no I/O: the first call opens the engine, in a thread of its own. Dropping it frees the thread and its sockets.

    Delivery: in order from one sender to one channel, at most once. A message that send() took arrives, unless its
    receiver's process dies, nobody takes it within `expiry` seconds, or the engine loses its data (which is counted).
    """

    extensions: ClassVar[list[str]] = ["groups", "flush"]
    options: ClassVar[tuple[Option, ...]] = CORE_OPTIONS

    def __init__(self, **config: Any) -> None:
        self._where = _where(config)
        values = read_options(config, self.options, self._where)
        super().__init__(expiry=values["expiry"], capacity=values["capacity"])
        self.channel_capacity = list(values["channel_capacity"])
        self.group_expiry: float = values["group_expiry"]
        self.prefix: str = values["prefix"]
        self._values = values
        self._max_message_size: int = values["max_message_size"]
        self._capacity_of = make_capacity_of(self.capacity, self.channel_capacity, enforce=values["enforce_capacity"])
        self._codec = Codec(
            serializer_format=values["serializer_format"],
            cipher=make_cipher(values["symmetric_encryption_keys"]),
            prefix=self.prefix,
            sealed_version=values["frame_version"],
        )
        self._resilience = Resilience(values["resilience"]) if values["resilience"] else None
        self._on_commit = OnCommit()
        # Reentrant, as a destructor may use the layer while it is being made; then the first that is made counts.
        self._making = threading.RLock()
        self._made: Hub | None = None  # guarded by _making
        watch_forks(self)
        watch_test_databases(self)

    @property
    def _hub(self) -> Hub:
        return self._made or self._make_hub()

    def _make_hub(self) -> Hub:
        if sys.is_finalizing():
            raise ChannelLayerError("the interpreter ends: it is too late to use a layer for the first time")
        # At the first use: until then a test run may change which database the settings name.
        with self._making:
            if self._made is None:
                refuse_if_dropped(self)
                hub = self._new_hub()
                if self._made is None:
                    self._made = hub
                    # The hub does not know the layer, so that a layer nobody holds any more is freed, and it stopped.
                    self._finalizer = weakref.finalize(self, hub.stop)
                    self._finalizer.atexit = False
            return self._made

    # --- what a layer's own class defines, beside `options`

    def _make_transport(self, values: dict[str, Any]) -> Transport:
        """Return a new transport; `values` has the value of every option in `options`, checked.

        Called once in each process, at the first use and not in the constructor, in whatever thread that is; it must do
        no I/O, and hold nothing that keeps the layer alive. After a fork it is called again, in the child.
        """
        raise NotImplementedError(f"{type(self).__qualname__} must define _make_transport()")

    def _new_hub(self) -> Hub:
        values = self._values
        gap_event = values["gap_event"]
        options = HubOptions(
            prefix=self.prefix,
            expiry=self.expiry,
            group_expiry=self.group_expiry,
            send_timeout=values["send_timeout"],
            capacity_of=self._capacity_of,
            gap_body=None if gap_event is None else self._codec.pack({"type": gap_event}),
            inline=values["inline"],
            busy_wait=values["busy_wait"],
            too_large=MessageTooLarge,
        )
        return Hub(node=new_node_id(), transport=self._make_transport(values), codec=self._codec, options=options)

    def _renew_after_fork(self) -> None:
        self._making = threading.RLock()
        hub, self._made = self._made, None
        if hub is not None:
            self._finalizer.detach()
            hub.abandon()

    def _let_go(self) -> None:
        """Close, as Django is about to copy or drop the database; the next call finds out anew where the engine is."""
        with self._making:
            hub, self._made = self._made, None
        if hub is not None:
            self._finalizer.detach()
            with Within():
                hub.retire(
                    ChannelLayerError("the layer was closed: Django has made, copied or dropped a test database")
                )

    # --- the channel layer API

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send a message to a channel; it is with the channel's process, or safely stored, when this returns.

        Raises TypeError for a bad name or a value that cannot be packed, MessageTooLarge beyond `max_message_size` or
        what the engine takes, ChannelFull if the channel holds `capacity` messages, and TransportUnavailable if the
        engine could not take it within `send_timeout` seconds (it is not sent later; if it was under way when the
        engine went, it may have been taken). Cancelled, the message may or may not be sent.
        """
        body = self._pack(message)
        _refuse_within("send")
        if self._resilience is not None and await self._resilience.strikes(self._hub):
            check_channel(channel)
            return
        hub = self._hub
        if hub.router.pressed:
            await hub.step_aside()
        while True:
            try:
                waiter = hub.send(channel, body, new_future)
                if waiter is not None:
                    await waiter
            except Refused:
                raise ChannelFull(channel) from None
            except MustWait as ahead:
                await asyncio.wait([ahead.waiter], timeout=ANSWER_WITHIN)
            else:
                return

    # Not async itself: each socket waits in here, and a coroutine around the hub's would take 0.5 KB more.
    @markcoroutinefunction
    def receive(self, channel: str) -> Coroutine[Any, Any, dict[str, Any]]:
        """Take the oldest message of a channel, waiting for one if need be.

        A channel made by new_channel() can be received from in its own process alone (WrongProcess elsewhere); a normal
        channel anywhere, and each of its messages goes to one receiver. Cancelling it loses no message. It does not
        raise because the engine is away: it waits.
        """
        return (self._made or self._make_hub()).receive(channel, self)

    async def new_channel(self, prefix: str = "specific") -> str:
        """Return the name of a new channel that only this process receives from.

        The first call waits until the engine knows this process, so that whoever is told the name can send to it.
        """
        _refuse_within("new_channel")
        name = self._hub.new_channel(prefix)
        waiter = self._hub.join(new_future)
        if waiter is not None:
            await waiter
        return name

    async def group_add(self, group: str, channel: str) -> None:
        """Add a channel to a group, or renew its membership of `group_expiry` seconds; it holds when this returns.

        A channel of another process is added by that process; one whose process is gone is not added, without an error.
        """
        _refuse_within("group_add")
        waiter = (self._made or self._make_hub()).group_add(group, channel, new_future)
        if waiter is not None:
            await waiter

    async def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group, if it is in it; it holds when this returns."""
        check_group(group)
        _refuse_within("group_discard")
        waiter = self._hub.group_discard(group, channel, new_future)
        if waiter is not None:
            await waiter

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send a message to every member of a group, in every process; never raises ChannelFull.

        A member that is full goes without the message (counted). Raises as send() otherwise; if it raises
        TransportUnavailable, or MessageTooLarge because of the engine, members in this process have the message
        already.
        """
        check_group(group)
        body = self._pack(message)
        _refuse_within("group_send")
        if self._resilience is not None and await self._resilience.strikes(self._hub):
            return
        hub = self._hub
        if hub.router.pressed:
            await hub.step_aside()
        waiter = hub.group_send(group, body, new_future)
        if waiter is not None:
            await waiter

    async def flush(self) -> None:
        """Drop all messages and groups in every process with this prefix; done when this returns."""
        _refuse_within("flush")
        await self._hub.flush(new_future())

    async def close(self) -> None:
        """Send what is pending, then free the thread, sockets and connections, and drop messages and groups here.

        The layer can be used again: the next call opens it. Receivers that wait go on waiting.
        """
        _refuse_within("close")
        await self._hub.close()

    # --- beyond the specification

    @property
    def sync(self) -> SyncChannelLayer:
        """The same API as plain blocking calls, for threads without an event loop."""
        return SyncChannelLayer(self)

    def stats(self) -> LayerStats:
        """A snapshot of the numbers of this layer object in this process."""
        with Within():  # what interrupts this must not wait for the lock that it holds
            return self._hub.stats(self._resilience.dropped if self._resilience else 0)

    def health(self) -> Health:
        """A snapshot of how the engine is doing."""
        return self._hub.health()

    async def peers(self) -> frozenset[str]:
        """The ids of the other nodes with this prefix that are alive, as far as can be known.

        Raises TransportUnavailable if the engine does not answer within `send_timeout` seconds.
        """
        _refuse_within("peers")
        found: set[str] = set()
        await self._hub.find_peers(found, new_future())
        return frozenset(found)

    async def clean_expired(self) -> None:
        """Remove what has expired from the engine, now, where it does not do so by itself (`auto_trim`).

        Raises TransportUnavailable if the engine is not reached within `send_timeout` seconds. The method has the name
        that it has in channels-lite.
        """
        _refuse_within("clean_expired")
        await self._hub.clean(new_future())

    def get_capacity(self, channel: str) -> int:
        """The capacity of a channel, by `channel_capacity` or `capacity`."""
        return self._capacity_of(channel)

    # --- for commands and checks

    @property
    def encryption_keys(self) -> tuple[str | bytes, ...]:
        """The keys as they were given; never to be shown."""
        return tuple(self._values["symmetric_encryption_keys"])

    @property
    def crosses_processes(self) -> bool:
        """Whether messages reach other processes."""
        return self._hub.transport.capabilities.crosses_processes

    # --- for the layer and its sync side

    def _pack(self, message: dict[str, Any]) -> bytes:
        if not isinstance(message, dict):
            raise TypeError(f"message must be a dict, not {type(message).__name__}")
        body = self._codec.pack(message)
        if len(body) > self._max_message_size:
            raise MessageTooLarge(
                f"the packed message has {len(body)} bytes; max_message_size is {self._max_message_size}"
            )
        return body


def new_future() -> "asyncio.Future[None]":
    """A waiter for the running loop."""
    return asyncio.get_running_loop().create_future()


def _refuse_within(name: str) -> None:
    if WITHIN.get():
        # async_to_sync() takes this context along into the thread that it uses, and blocks the one it comes from.
        raise RuntimeError(
            f"layer.{name}() was called in the middle of a blocking call of the layer (by a signal handler or a "
            f"destructor), and would wait for itself. layer.sync.send() and layer.sync.group_send() can be called "
            f"there"
        )


def _where(config: dict[str, Any]) -> str:
    """The path of `config` in the settings, as far as it can be told."""
    from django.conf import settings

    if settings.configured:
        layers = getattr(settings, "CHANNEL_LAYERS", {})
        for alias, entry in layers.items() if isinstance(layers, dict) else ():
            if isinstance(entry, dict) and entry.get("CONFIG", {}) == config:
                return f"CHANNEL_LAYERS[{alias!r}]['CONFIG']"
    return "CONFIG"
