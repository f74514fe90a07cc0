"""What nodes say to each other besides messages: joins, leaves and flushes, and how much room a mailbox has."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from channels_trunk.codec import Codec
from channels_trunk.envelope import EVERY_NODE, Control, ControlOp, Envelope, Kind
from channels_trunk.exceptions import DecodeError, TransportUnavailable
from channels_trunk.names import channel_owner, check_channel, check_group, is_node_id
from channels_trunk.router import Effects, Mailbox

from .claims import Suspension
from .outbox import Outgoing

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["ControlDesk", "why_late"]

# How often to look whether a node that has not answered is still alive. Seconds.
_LOOK_AGAIN = 0.1
# Of a flush, each of which may take `send_timeout`.
_STEPS = 3
# `room` of a flush that is over, or has failed.
_OVER = -1
# To remove what has expired may take longer than a message. Seconds.
_TRIM_WITHIN = 600.0


class ControlDesk:
    """Answers other nodes, and asks them."""

    def __init__(self, hub: "Hub", codec: Codec) -> None:
        self._hub = hub
        self._codec = codec
        self._flushing: asyncio.Task[object] | None = None  # the latest flush; on the hub's loop
        self._handlers = {
            ControlOp.JOIN: self._on_join,
            ControlOp.LEAVE: self._on_leave,
            ControlOp.FLUSH: self._on_flush,
            ControlOp.DONE: self._on_done,
            ControlOp.REPORT: self._on_report,
            ControlOp.ROOM: self._on_room,
            ControlOp.DRAINED: self._on_drained,
        }

    # --- envelopes out

    def packed(self, node: str, control: Control) -> Outgoing:
        """An envelope for `node` that nobody waits for."""
        clock, options = self._hub.clock, self._hub.options
        # For as long as somebody may wait for it; and no longer, as whoever can write to the engine may repeat it.
        ends = clock.wall() + max(options.expiry, options.send_timeout)
        envelope = Envelope(Kind.CONTROL, node, ends, self._codec.pack_control(control))
        return Outgoing(envelope, None, clock.monotonic() + options.send_timeout)

    def tell_if_drained(self, box: Mailbox) -> None:
        """A mailbox that was said to be full has been read from: tell every node if there is room again."""
        with self._hub.lock:
            room = box.room(self._hub.clock.monotonic())
            if not box.said_full or room * 2 < box.capacity:
                return
            box.said_full = False
        self._hub.publish(
            [self.packed(EVERY_NODE, Control(ControlOp.DRAINED, self._hub.node, channel=box.channel, room=room))]
        )

    # --- envelopes in; with the hub's lock held

    def handle(self, envelope: Envelope, effects: Effects) -> None:
        """Do what another node asks, or take its answer."""
        try:
            if envelope.expires_at <= self._hub.clock.wall():
                raise DecodeError("what another process asked or answered came after its time")
            control = self._codec.unpack_control(envelope.body)
            _check(control)
            self._handlers[ControlOp(control.op)](control, effects)
        except (DecodeError, ValueError, TypeError) as error:
            # A node of a later version may say what this one does not know; TypeError: a name that is none.
            effects.skipped.append(error)

    def _done(self, control: Control, effects: Effects) -> None:
        effects.controls.append((control.sender, Control(ControlOp.DONE, self._hub.node, control.number)))

    def _on_join(self, control: Control, effects: Effects) -> None:
        if channel_owner(control.channel) == self._hub.node:
            self._hub.router.join(control.group, control.channel, self._hub.clock.monotonic())
        if self._hub.driver.hears(control.group):
            self._done(control, effects)
        else:
            self._hub.on_io(lambda: self._hub.spawn(self._join_heard(control)))

    async def _join_heard(self, control: Control) -> None:
        await self.membership_ready(control.group)
        self._hub.publish([self.packed(control.sender, Control(ControlOp.DONE, self._hub.node, control.number))])

    def _on_leave(self, control: Control, effects: Effects) -> None:
        self._hub.router.leave(control.group, control.channel)
        self._done(control, effects)

    def _on_flush(self, control: Control, effects: Effects) -> None:
        claims = self._hub.claims
        if control.room > 0:
            # Not in a moment: what says that it is over may be right behind.
            suspension = claims.suspend(control.sender, control.room)
            self._hub.on_io(self._begin_to_let_go, suspension, control)
            return
        claims.resume(control.sender)
        if control.room != _OVER:
            self._flush_here(effects)
            self._done(control, effects)

    def _begin_to_let_go(self, suspension: Suspension, control: Control) -> None:
        suspension.task = self._hub.spawn(self._let_go_for(suspension, control))

    async def _let_go_for(self, suspension: Suspension, control: Control) -> None:
        with suppress(TimeoutError):
            if await self._let_go(suspension, asyncio.get_running_loop().time() + control.room):
                done = Control(ControlOp.DONE, self._hub.node, control.number)
                self._hub.publish([self.packed(control.sender, done)])

    async def _let_go(self, suspension: Suspension, end: float) -> bool:
        """Have nothing that was taken out of the engine's reach; False if the flush is over, and all may be new.

        Raises TimeoutError after `end`, in the loop's seconds.
        """
        # What is being claimed is of no use to anybody now, and must not go back for that reason.
        if not self._flush_now(suspension):
            return False
        async with asyncio.timeout_at(end):
            await self._hub.claims.settled()
        if self._hub.transport.capabilities.claims_ahead:
            await self._hub.driver.drive_patiently(self._hub.transport.drop, end=end)
        # Also what was on its way from there.
        return self._flush_now(suspension)

    def _flush_here(self, effects: Effects) -> None:
        self._hub.router.flush()
        self._hub.claims.forget()
        effects.wakes += self._hub.windows.clear()

    def _on_done(self, control: Control, effects: Effects) -> None:
        effects.wakes += self._hub.requests.done(control.number, control.sender)

    def _on_report(self, control: Control, effects: Effects) -> None:
        box = self._hub.router.boxes.get(control.channel)
        room = self._hub.options.capacity_of(control.channel)
        if box is not None:
            # Said before it is counted: whoever takes a message without the lock looks at this afterwards.
            said_full, box.said_full = box.said_full, True
            room = max(0, box.room(self._hub.clock.monotonic()))
            box.said_full = said_full or room == 0
        answer = Control(ControlOp.ROOM, self._hub.node, control.number, control.channel, room=room)
        effects.controls.append((control.sender, answer))

    def _on_room(self, control: Control, effects: Effects) -> None:
        effects.wakes += self._hub.windows.answer(
            control.channel, control.number, control.room, self._hub.clock.monotonic()
        )

    def _on_drained(self, control: Control, effects: Effects) -> None:
        effects.wakes += self._hub.windows.drained(control.channel, control.room)

    # --- requests; coroutines for the hub's loop

    async def membership_ready(self, group: str | None = None) -> None:
        """Return when messages to `group` (None: all with members here) reach this node.

        Raises TransportUnavailable after send_timeout.
        """
        with self._within_send_timeout("the engine was not reached") as end:
            await self._hub.driver.be_heard(*(() if group is None else (group,)), end=end)

    async def bind(self, group: str, channel: str) -> None:
        """Make a normal channel a member of a group."""
        group_expiry = self._hub.options.group_expiry
        with self._within_send_timeout("the engine did not take the membership") as end:
            await self._hub.driver.until_open(end)  # which may set the clock
            ends = self._hub.clock.wall() + group_expiry if group_expiry else float("inf")
            await self._hub.driver.drive_patiently(self._hub.transport.bind, group, channel, ends, end=end)

    async def unbind(self, group: str, channel: str) -> None:
        """Take a normal channel out of a group."""
        with self._within_send_timeout("the engine did not take the membership") as end:
            await self._hub.driver.drive_patiently(self._hub.transport.unbind, group, channel, end=end)

    async def flush(self) -> None:
        """Empty the engine, this node, and every other one.

        What lies in one place could slip into another that is empty already: a job that was claimed goes back, or is
        claimed anew. So at first all nodes let go of what they have and touch nothing (`room`: for how many seconds, if
        this one does not come to say that it is over), then the engine is emptied, and then they go on.

        One after the other: one whose caller was cancelled goes on, and must not empty what comes after the next.
        """
        before, self._flushing = self._flushing, asyncio.current_task()
        if before is not None and before.get_loop() is asyncio.get_running_loop() and not before.done():
            await asyncio.wait({before})
        node, seconds = self._hub.node, math.ceil(_STEPS * self._hub.options.send_timeout)
        try:
            with self._within_send_timeout("the engine could not be emptied") as end:
                await self._hub.driver.until_open(end)
                with self._hub.lock:
                    suspension = self._hub.claims.suspend(node, seconds)
                await self._let_go(suspension, end)
            await self.ask(ControlOp.FLUSH, None, room=seconds)
            with self._within_send_timeout("the engine could not be emptied") as end:
                await self._hub.driver.drive_patiently(self._hub.transport.purge, end=end)
            await self.ask(ControlOp.FLUSH, None)
        finally:
            with self._hub.lock:
                self._hub.claims.resume(node)
            # Also for who was not asked to go on, as it seemed to be gone for a moment.
            over = Effects()
            over.controls.append((EVERY_NODE, Control(ControlOp.FLUSH, node, room=_OVER)))
            self._hub.perform(over)
        # Once more: what others had sent before they flushed has come in the meantime.
        self._flush_now()

    def _flush_now(self, during: Suspension | None = None) -> bool:
        """Empty this node; with `during`, only if that is not over: False if it is."""
        effects = Effects()
        with self._hub.lock:
            if during is not None and not self._hub.claims.stands(during):
                return False
            self._flush_here(effects)
        self._hub.perform(effects)
        return True

    async def ask(
        self, op: ControlOp, nodes: set[str] | None, *, channel: str = "", group: str = "", room: int = 0
    ) -> None:
        """Ask nodes (None: all that are alive) and return when each has done it, or is gone."""
        with self._within_send_timeout("another process did not answer") as end:
            alive = await self._alive(end)
            asked = alive if nodes is None else alive & nodes
            if not asked:
                return
            waiter = asyncio.get_running_loop().create_future()
            with self._hub.lock:
                number = self._hub.requests.open(waiter, asked)
            try:
                control = Control(op, self._hub.node, number, channel, group, room)
                self._hub.publish([self.packed(node, control) for node in sorted(asked)])
                await self._answered(number, waiter, end)
            finally:
                with self._hub.lock:
                    self._hub.requests.close(number)

    async def find_peers(self, found: set[str]) -> None:
        """Add the other nodes that are alive to `found`."""
        with self._within_send_timeout("the engine was not reached") as end:
            found.update(await self._alive(end))

    async def _alive(self, end: float) -> frozenset[str]:
        found = await self._hub.driver.drive_patiently(self._hub.transport.peers, end=end)
        # What somebody else has put there under another name is no process that could answer.
        return frozenset(filter(is_node_id, found))

    async def clean(self) -> None:
        """Remove what has expired from the engine; once it is there, that may take longer than send_timeout."""
        with self._within_send_timeout("the engine was not reached") as end:
            await self._hub.driver.until_open(end)
        end = asyncio.get_running_loop().time() + _TRIM_WITHIN
        try:
            await self._hub.driver.drive_patiently(self._hub.transport.trim, end=end, within=_TRIM_WITHIN)
        except TimeoutError as error:
            raise TransportUnavailable(f"what has expired was not removed within {_TRIM_WITHIN:g} s") from error

    async def _answered(self, number: int, waiter: "asyncio.Future[None]", end: float) -> None:
        clock = asyncio.get_running_loop().time
        while not waiter.done():
            await asyncio.wait([waiter], timeout=max(0.0, min(_LOOK_AGAIN, end - clock())))
            if waiter.done():
                return
            if clock() >= end:
                raise TimeoutError
            alive = await self._alive(end)
            with self._hub.lock:
                if self._hub.requests.still_alive(number, alive):
                    return

    @contextmanager
    def _within_send_timeout(self, what: str) -> Iterator[float]:
        """Until when it may take, in the loop's seconds; a TimeoutError becomes what a caller can understand."""
        try:
            yield asyncio.get_running_loop().time() + self._hub.options.send_timeout
        except TimeoutError as error:
            raise why_late(self._hub, what) from error


def _check(control: Control) -> None:
    """Raise TypeError for names that cannot be any: they would go to the engine, with what others send."""
    check_group(control.sender)
    if control.channel:
        check_channel(control.channel)
    if control.group:
        check_group(control.group)


def why_late(hub: "Hub", what: str) -> TransportUnavailable:
    """What to tell somebody whose time is over."""
    detail = hub.health().detail
    seconds = hub.options.send_timeout
    return TransportUnavailable(f"{what} within send_timeout={seconds:g} s{': ' if detail else ''}{detail}")
