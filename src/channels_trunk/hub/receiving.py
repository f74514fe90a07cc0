"""Receiving: the callers' side of the mailboxes, for tasks of any loop and for plain threads."""

import asyncio
import sys
from collections import deque
from typing import Any

from channels_trunk.exceptions import DecodeError, WrongProcess
from channels_trunk.names import MAX_NAME_LENGTH, channel_owner
from channels_trunk.router import Body, Effects, Mailbox
from channels_trunk.transports.base import NodeContext, Transport

from .lifecycle import Lifecycle
from .waiters import ThreadWaiter, Waiter

__all__ = ["Receiving"]

# After so many messages taken without a pause, a receiver lets the other tasks of its loop run.
_FAIR_SHARE = 64


class Receiving(Lifecycle):
    """The hub's part that takes messages out of mailboxes. Any thread."""

    node: str

    def __init__(self, transport: Transport, context: NodeContext) -> None:
        super().__init__(transport, context)
        self._heads: set[str] = set()  # what stands before the "!" in names that new_channel() made
        self._unpack = context.codec.unpack
        self._left_behind: deque[tuple[Mailbox, Waiter]] = deque()  # receivers that the collector found

    def _is_own(self, channel: str) -> bool:
        """Whether the channel is one of this node; raises TypeError if it cannot be a channel's name."""
        # Names that new_channel() made need no regular expression; that is what connecting sockets spend most time on.
        if channel.__class__ is str:
            head, _, local = channel.partition("!")
            if head in self._heads and local.isalnum() and local.isascii() and len(channel) < MAX_NAME_LENGTH:
                return True
        return channel_owner(channel) == self.node

    # In one piece, and with few variables, because each socket waits in here: a coroutine within would take 0.4 KB more
    # of memory for each, a variable 8 bytes. It holds the layer for as long as it waits: one that nobody holds any more
    # stops its hub.
    async def receive(self, channel: str, _layer: object) -> dict[str, Any]:  # noqa: C901
        """Take the oldest message of a channel, waiting for one if need be; cancelled, it loses nothing."""
        box = self.router.boxes.get(channel)
        if box is None or not box.own:
            box = self._box_of(channel)
        if box.streak >= _FAIR_SHARE:
            # Before anything was taken, and before a waiter was parked: cancelled in here, nothing is lost.
            box.streak = 0
            await asyncio.sleep(0)
        future: Any = None  # an asyncio.Future, once it has waited
        while True:
            messages: Any = box.messages
            if future is None and messages and messages.__class__ is list and box.own and not self.router.pressed:
                # What take() does, for nearly all, and without the lock: router/mailbox.py says why it may.
                try:
                    expires, body = messages.pop(0)
                except IndexError:
                    continue
                if expires <= self.clock.monotonic():
                    with self.lock:
                        self.router.expired(box)
                    continue
                box.streak += 1
            else:
                with self.lock:
                    now = self.clock.monotonic()
                    body = self.router.take(box, now) if future is None else self.router.come(box, now)
                    if body is None:
                        if self.router.boxes.setdefault(channel, box) is not box:
                            # It was forgotten meanwhile, as nothing was in it and nobody waited at it, and made anew.
                            self.router.boxes[channel].own = box.own
                            box, future = self.router.boxes[channel], None
                            continue
                        box.add_waiter(future := asyncio.Future(loop=asyncio.get_running_loop()))
            if body is not None:
                if not box.said_full:
                    # What _taken() does, for nearly all; for the others it says why it cannot.
                    try:
                        if body.__class__ is bytes:
                            return self._unpack(body)
                        model: dict[str, Any] | None = body.model
                        return body.open(self._unpack) if model is None else model.copy()
                    except Exception:  # noqa: BLE001, S110
                        pass
                if (message := self._taken(box, body)) is not None:
                    return message
                future = None
                continue
            try:
                door = self.doorwatch
                if not box.own or self.is_idle or (door is not None and door.watcher is not future.get_loop()):
                    self._await_arrival(box, future.get_loop())
                if not future.done():
                    box.streak = 0
                await future
            except BaseException:
                self._left(box, future)
                raise

    def _left(self, box: Mailbox, waiter: Waiter) -> None:
        """A receiver waits no more, for the exception that is being handled."""
        if isinstance(sys.exception(), GeneratorExit):
            # Thrown by the collector, as the loop was closed under the task: in whatever thread, and perhaps while
            # that thread holds the hub's lock.
            self._left_behind.append((box, waiter))
            self.on_io(self._bury)
        else:
            self._give_up(box, waiter)

    def _bury(self) -> None:
        while self._left_behind:
            self._give_up(*self._left_behind.popleft())

    def receive_blocking(self, channel: str, timeout: float | None) -> dict[str, Any]:
        """As receive(), for a thread without an event loop; raises TimeoutError after `timeout` seconds."""
        box = self._box_of(channel)
        end = None if timeout is None else self.clock.monotonic() + timeout
        woken = False
        while True:
            with self.lock:
                if woken:
                    body = self.router.come(box, self.clock.monotonic())
                else:
                    present = self.router.boxes.setdefault(channel, box)
                    present.own, box = box.own, present
                    body = self.router.take(box, self.clock.monotonic())
                if body is None:
                    waiter = ThreadWaiter()
                    box.add_waiter(waiter)
            if body is not None:
                if (message := self._taken(box, body)) is not None:
                    return message
                woken = False
                continue
            try:
                self._await_arrival(box, None)
                if not waiter.wait(None if end is None else end - self.clock.monotonic()):
                    raise TimeoutError(f"no message on {channel!r} within {timeout} s")
            except BaseException:
                self._give_up(box, waiter)
                raise
            woken = True

    def _taken(self, box: Mailbox, body: Body) -> dict[str, Any] | None:
        """The message that was taken from `box`; None if it is malformed, and so skipped."""
        if box.said_full:
            self.desk.tell_if_drained(box)
        try:
            return self._unpack(body) if isinstance(body, bytes) else body.open(self._unpack)
        except Exception as error:  # noqa: BLE001 - a serializer of the user's may raise anything
            # Its text is not shown, as it may quote the message.
            self.context.sink.skipped(DecodeError(f"a message cannot be unpacked ({type(error).__name__})"))
            return None

    def _box_of(self, channel: str) -> Mailbox:
        """The mailbox to receive from, which remembers what its name was found to be."""
        own = self._is_own(channel)
        owner = None if own else channel_owner(channel)
        if owner is not None:
            raise WrongProcess(
                f"channel {channel!r} belongs to another process (node {owner}): only the layer object whose "
                f"new_channel() made it can receive from it. After a fork, call new_channel() in the child."
            )
        with self.lock:
            box = self.router.box(channel)
            box.own = own
        return box

    def _await_arrival(self, box: Mailbox, loop: asyncio.AbstractEventLoop | None) -> None:
        if self.is_idle:
            self.start()
        doorwatch = self.doorwatch
        if doorwatch is not None and (loop is None or doorwatch.watcher is not loop):
            if loop is None:
                doorwatch.thread_waits()
            else:
                doorwatch.receiver_waits(loop)
        if not box.own:
            self.claims.want(box.channel)

    def _give_up(self, box: Mailbox, waiter: Waiter) -> None:
        effects = Effects()
        with self.lock:
            self.router.abandon(box, waiter, effects)
            if not box.own:
                self.claims.give_back(box)
        self.wake(effects.wakes)
