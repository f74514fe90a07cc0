"""`layer.sync`: the channel layer API as plain blocking calls."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from channels.exceptions import ChannelFull

from channels_trunk.aside import Within, enter, is_within, leave, logger
from channels_trunk.hub import MustWait, Refused
from channels_trunk.hub.waiters import ThreadWaiter
from channels_trunk.names import check_channel, check_group
from channels_trunk.router import ANSWER_WITHIN

from .on_commit import Parcel

if TYPE_CHECKING:
    from .base import TrunkChannelLayer

__all__ = ["SyncChannelLayer"]


class SyncChannelLayer:
    """For views, Celery tasks, signal handlers and scripts: no event loop is made and no connection opened per call.

    Every method does what the layer's method of the same name does, and raises what that raises. They may be called in
    any thread. In a thread that runs an event loop they hold it up: there, await the layer's own methods; receive(),
    flush() and close() refuse to be called there, as they wait for what that loop may have to do.

    A call that interrupts the layer's own work in the same thread (in a signal handler, a destructor, or the handler of
    a record that a library logs there) must not wait for that work. send() and group_send() return at once there: the
    message goes a moment later, in the order of such calls, and a failure is logged. All other methods raise
    RuntimeError there.
    """

    __slots__ = ("_layer",)

    def __init__(self, layer: "TrunkChannelLayer") -> None:
        self._layer = layer

    def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send a message to a channel."""
        body = self._layer._pack(message)
        hub = self._layer._hub
        if is_within():
            check_channel(channel)
            hub.aside(partial(_send_aside, self._send, channel, body))
            return
        if hub.asides:
            hub.wait_for_asides()
        self._send(channel, body)

    def _send(self, channel: str, body: bytes) -> None:
        mark, token = enter()  # written out, as a context manager takes three times as long
        try:
            if self._is_struck():
                check_channel(channel)
                return
            while True:
                try:
                    waiter = self._layer._hub.send(channel, body, ThreadWaiter)
                    if waiter is not None:
                        waiter.wait()
                except Refused:
                    raise ChannelFull(channel) from None
                except MustWait as ahead:
                    ahead.waiter.wait(ANSWER_WITHIN)
                else:
                    return
        finally:
            leave(mark, token)

    def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send a message to every member of a group."""
        check_group(group)
        body = self._layer._pack(message)
        hub = self._layer._hub
        if is_within():
            hub.aside(partial(_send_aside, self._group_send, group, body))
            return
        if hub.asides:
            hub.wait_for_asides()
        self._group_send(group, body)

    def _group_send(self, group: str, body: bytes) -> None:
        mark, token = enter()
        try:
            if not self._is_struck():
                self._layer._hub.group_send(group, body, ThreadWaiter).wait()
        finally:
            leave(mark, token)

    def send_on_commit(self, channel: str, message: dict[str, Any], *, using: str | None = None) -> None:
        """Send a message to a channel if and when the caller's database transaction commits.

        The transaction is that of the Django database `using`, or of the default one. The message goes when the
        outermost `atomic` block has committed, in the order of the calls, and all messages of the transaction go
        together; what belongs to a savepoint that is rolled back is not sent. Outside a transaction it goes at once.

        The message is checked and packed by this call, which raises what send() raises for a bad name, a value that
        cannot be packed or a message that is too large; changes made to it later are of no effect. The commit returns
        when the messages are stored or delivered, or `send_timeout` seconds later, and raises nothing because of them,
        as there is nothing left to roll back: a message for a channel that is full, and one that the engine could not
        take, is counted in stats() (`dropped_overflow_total`, `failed_total`), logged, and not sent.

        Raises RuntimeError in a thread that runs an event loop, unless a transaction is open there.
        """
        check_channel(channel)
        self._layer._on_commit.add(self._layer, Parcel(channel, self._layer._pack(message), to_group=False), using)

    def group_send_on_commit(self, group: str, message: dict[str, Any], *, using: str | None = None) -> None:
        """Send a message to a group if and when the caller's transaction commits; all as send_on_commit()."""
        check_group(group)
        self._layer._on_commit.add(self._layer, Parcel(group, self._layer._pack(message), to_group=True), using)

    def receive(self, channel: str, timeout: float | None = None) -> dict[str, Any]:
        """Take the oldest message of a channel; raises TimeoutError if none came within `timeout` seconds."""
        _refuse_in_loop("receive")
        if is_within():
            raise _would_wait("receive")
        mark, token = enter()
        try:
            return self._layer._hub.receive_blocking(channel, timeout)
        finally:
            leave(mark, token)

    def new_channel(self, prefix: str = "specific") -> str:
        """Return the name of a new channel that only this process receives from."""
        with _waiting("new_channel"):
            name = self._layer._hub.new_channel(prefix)
            _wait(self._layer._hub.join(ThreadWaiter))
        return name

    def group_add(self, group: str, channel: str) -> None:
        """Add a channel to a group."""
        check_group(group)
        with _waiting("group_add"):
            _wait(self._layer._hub.group_add(group, channel, ThreadWaiter))

    def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group."""
        check_group(group)
        with _waiting("group_discard"):
            _wait(self._layer._hub.group_discard(group, channel, ThreadWaiter))

    def flush(self) -> None:
        """Drop all messages and groups in every process."""
        _refuse_in_loop("flush")
        with _waiting("flush"):
            _wait(self._layer._hub.flush(ThreadWaiter()))

    def close(self) -> None:
        """Send what is pending and free everything."""
        _refuse_in_loop("close")
        with _waiting("close"):
            self._layer._hub.close_blocking()

    def _is_struck(self) -> bool:
        resilience = self._layer._resilience
        return resilience is not None and resilience.strikes_here(self._layer._hub)


def _waiting(name: str) -> Within:
    """Refuse to wait for our own work, and mark what is about to wait."""
    if is_within():
        raise _would_wait(name)
    return Within()


def _would_wait(name: str) -> RuntimeError:
    return RuntimeError(
        f"layer.sync.{name}() was called in the middle of the layer's own work in the same thread (by a signal "
        f"handler, a destructor or a log handler), and would wait for itself. Only send() and group_send() can be "
        f"called there; do the rest in a thread or a task of your own"
    )


def _send_aside(send: Callable[[str, bytes], None], target: str, body: bytes) -> None:
    """Send what was sent where nobody could wait for it."""
    try:
        send(target, body)
    except Exception as error:  # noqa: BLE001 - whoever sent it has gone on
        logger.warning("a message for %s was not sent: %s: %s", target, type(error).__name__, error)


def _wait(waiter: Any) -> None:
    if waiter is not None:
        waiter.wait()


def _refuse_in_loop(name: str) -> None:
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(f"layer.sync.{name}() would hold up the event loop of this thread: await layer.{name}()")
