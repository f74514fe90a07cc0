"""The hub of one node: the way out, the way in, and the callers' side of both, on any loop and any thread."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from channels_trunk.clock import SYSTEM_CLOCK, Clock, WallClock
from channels_trunk.codec import Codec
from channels_trunk.envelope import Control, ControlOp, Envelope, Kind
from channels_trunk.names import channel_owner, check_channel, check_group, local_names
from channels_trunk.router import FULL, Effects, Router, Verdict, Windows
from channels_trunk.stats import LayerStats
from channels_trunk.transports.base import NodeContext, Transport

from .claims import Claims
from .control import ControlDesk
from .joining import Joining
from .outbox import Outgoing
from .outcomes import Refused
from .publisher import Publisher
from .reader import Reader
from .receiving import Receiving
from .sink import HubSink
from .waiters import Waiter

W = TypeVar("W", bound=Waiter)

__all__ = ["Hub", "HubOptions", "MustWait", "Refused"]

_STEP_ASIDE_TURNS = 3
# To look up an enumeration's member takes longer than to make the envelope.
_MAILBOX, _GROUP, _QUEUE = int(Kind.MAILBOX), int(Kind.GROUP), int(Kind.QUEUE)
_MAX_HEADS = 100
_STATS_WITHIN = 0.1


class HubOptions(NamedTuple):
    """The options that the core itself obeys; durations in seconds."""

    prefix: str
    expiry: float
    group_expiry: float
    send_timeout: float
    capacity_of: Callable[[str], int]
    gap_body: bytes | None
    inline: bool
    busy_wait: bool
    too_large: Callable[[str], Exception]
    """What to tell the sender of a message that the engine does not take for its size."""


class MustWait(Exception):
    """The sender is ahead of the channel's owner: try again when `waiter` is settled."""

    def __init__(self, waiter: Any) -> None:
        self.waiter = waiter


class HubCounters:
    """What became of envelopes, frames and connections."""

    __slots__ = ("batches", "failed", "gaps", "reconnects", "sent", "skipped")

    def __init__(self) -> None:
        self.sent = self.batches = self.failed = self.skipped = self.gaps = self.reconnects = 0


class Hub(Receiving):
    """One node. Every method may be called in any thread, unless its text says otherwise."""

    def __init__(
        self, *, node: str, transport: Transport, codec: Codec, options: HubOptions, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.node = node
        self.options = options
        self.counters = HubCounters()
        self.lock = threading.Lock()  # guards the router, the windows, the outbox and the requests
        self.router = Router(capacity_of=options.capacity_of, group_expiry=options.group_expiry)
        self.windows = Windows(expiry=options.expiry)
        inline = options.inline and transport.capabilities.inline
        starts = options.inline and transport.capabilities.starts
        self.publisher = Publisher(self, transport, inline=inline, starts=starts)
        self.reader = Reader(self, transport)
        self.joining = Joining(self, transport, starts=starts)
        self.claims = Claims(self, transport, inline=inline)
        self.desk = ControlDesk(self, codec)
        self.control = self.desk.handle
        self._local_names = local_names()
        self.wall_clock = WallClock(clock.wall)
        clock = clock._replace(wall=self.wall_clock)
        context = NodeContext(node, options.prefix, codec, HubSink(self), clock, options.capacity_of)
        super().__init__(transport, context)

    def new_channel(self, prefix: str) -> str:
        """A name that this node owns; no I/O."""
        head = f"{prefix}.{self.node}"
        name = f"{head}!{next(self._local_names)}"
        if head not in self._heads:
            check_channel(name)
            if len(self._heads) < _MAX_HEADS:
                self._heads.add(head)
        with self.lock:
            # Whoever asks for a name receives from it, or puts it into a group: both find its mailbox made. One that
            # nobody uses is forgotten at the next sweep.
            self.router.box(name).own = True
        return name

    def join(self, new_waiter: Callable[[], W]) -> W | None:
        """Return what to wait for until others can reach this node, or None if they can."""
        return None if self.has_joined else self.run(self.desk.membership_ready(), new_waiter())

    # --- sending

    def send(self, channel: str, body: bytes, new_waiter: Callable[[], W]) -> W | None:
        """Send; return what to wait for until the transport has the message, or None if it is delivered already.

        Raises Refused if the channel is full, MustWait if its owner has to be heard first.
        """
        if channel.__class__ is str:
            # Of a channel that is known nothing need be found out, and nearly every message is for one.
            box = self.router.boxes.get(channel)
            if box is not None and box.own:
                self._send_here(channel, body)
                return None
            now = self.clock.monotonic()
            with self.lock:
                is_known = self.windows.spend_from_plenty(channel, now)
            if is_known:
                waiter = new_waiter()
                self.publish((self._outgoing(_MAILBOX, channel, body, waiter, now),))
                return waiter
        if self._is_own(channel):
            self._send_here(channel, body)
            return None
        outgoing: list[Outgoing] = []
        try:
            return self._address(channel, body, new_waiter, into=outgoing)
        finally:
            if outgoing:
                self.publish(outgoing)

    def _send_here(self, channel: str, body: bytes) -> None:
        now = self.clock.monotonic()
        with self.lock:
            woken = self.router.send(self.router.box(channel), (now + self.options.expiry, body), now)
        if woken is FULL:
            raise Refused
        if woken is not None:
            self.wake((woken,))

    def _outgoing(self, kind: int, target: str, body: bytes, waiter: Waiter, now: float) -> Outgoing:
        options = self.options
        envelope = Envelope(kind, target, self.clock.wall() + options.expiry, body)
        return Outgoing(envelope, waiter, now + options.send_timeout)

    def address(self, channel: str, body: bytes, new_waiter: Callable[[], W], *, into: list[Outgoing]) -> W | None:
        """As send(), but what has to be published is added to `into`: the caller publishes it, also after an error."""
        if self._is_own(channel):
            return self.send(channel, body, new_waiter)
        return self._address(channel, body, new_waiter, into=into)

    def _address(self, channel: str, body: bytes, new_waiter: Callable[[], W], *, into: list[Outgoing]) -> W:
        now = self.clock.monotonic()
        kind, question = _QUEUE, 0
        owner = channel_owner(channel)
        if owner is not None:
            kind, question = _MAILBOX, self._spend(channel, now, new_waiter, into=into)
        waiter = new_waiter()
        into.append(self._outgoing(kind, channel, body, waiter, now))
        if question:
            into.append(self._question(channel, question))
        return waiter

    def _question(self, channel: str, number: int) -> Outgoing:
        return self.desk.packed(channel_owner(channel) or "", Control(ControlOp.REPORT, self.node, number, channel))

    def _spend(self, channel: str, now: float, new_waiter: Callable[[], Waiter], *, into: list[Outgoing]) -> int:
        """Spend from the window of another node's channel; return the number of the question to ask, or 0."""
        capacity = self.options.capacity_of(channel)
        waiter: Waiter | None = None
        with self.lock:
            verdict = self.windows.spend(channel, capacity, now)
            question = self.windows.question(channel)
            if verdict in (Verdict.WAIT, Verdict.ASK_AND_WAIT):
                waiter = new_waiter()
                self.windows.wait(channel, waiter)
        if verdict is Verdict.GO:
            return 0
        if verdict is Verdict.GO_AND_ASK:
            return question
        if verdict in (Verdict.ASK_AND_WAIT, Verdict.ASK_AND_FULL):
            into.append(self._question(channel, question))
        if waiter is not None:
            if self.doorwatch is not None:
                self.doorwatch.look_after(waiter)
            raise MustWait(waiter)
        raise Refused

    def group_send(self, group: str, body: bytes, new_waiter: Callable[[], W]) -> W:
        """Deliver to the members at this node, and send one envelope for all others; return what to wait for."""
        outgoing: list[Outgoing] = []
        waiter = self.address_group(group, body, new_waiter, into=outgoing)
        self.publish(outgoing)
        return waiter

    def address_group(self, group: str, body: bytes, new_waiter: Callable[[], W], *, into: list[Outgoing]) -> W:
        """As group_send(), but what has to be published is added to `into`."""
        now = self.clock.monotonic()
        if group in self.router.groups:
            effects = Effects()
            with self.lock:
                self.router.send_group(group, [(now + self.options.expiry, body)], now, effects)
            self.perform(effects)
        waiter = new_waiter()
        into.append(self._outgoing(_GROUP, group, body, waiter, now))
        return waiter

    async def step_aside(self) -> None:
        """Let receivers run that were woken and whose mailboxes fill; call it when `router.pressed`."""
        for _ in range(_STEP_ASIDE_TURNS):
            await asyncio.sleep(0)
            if not self.router.pressed:
                return
        with self.lock:
            self.router.stop_stepping_aside()

    # --- groups

    def group_add(self, group: str, channel: str, new_waiter: Callable[[], W]) -> W | None:
        """Add a channel to a group; return what to wait for until it holds, or None if it does already."""
        router = self.router
        if group.__class__ is not str or group not in router.groups:
            check_group(group)  # a group that has members has a name that was looked at
        with self.lock:
            box = router.boxes.get(channel)
            if box is not None and box.own:
                router.enter(group, box, self.clock.monotonic())
                heard = self.driver.hears(group)
            else:
                box = None
        if box is None:
            return self._add_other(group, channel, new_waiter)
        if heard and self.has_joined:
            return None
        if heard:
            return self.join(new_waiter)
        waiter = new_waiter()
        self.joining.add(group, waiter)
        return waiter

    def _add_other(self, group: str, channel: str, new_waiter: Callable[[], W]) -> W | None:
        """Add a channel whose mailbox is not here: of another node, a normal one, or one that was forgotten."""
        if self._is_own(channel):
            with self.lock:
                self.router.box(channel).own = True
            return self.group_add(group, channel, new_waiter)
        owner = channel_owner(channel)
        if owner is None:
            return self.run(self.desk.bind(group, channel), new_waiter())
        return self.run(self.desk.ask(ControlOp.JOIN, {owner}, channel=channel, group=group), new_waiter())

    def group_discard(self, group: str, channel: str, new_waiter: Callable[[], W]) -> W | None:
        """Take a channel out of a group; return what to wait for until it holds, or None if it does already."""
        if self._is_own(channel):
            with self.lock:
                self.router.leave(group, channel)
            return None
        owner = channel_owner(channel)
        if owner is None:
            return self.run(self.desk.unbind(group, channel), new_waiter())
        return self.run(self.desk.ask(ControlOp.LEAVE, {owner}, channel=channel, group=group), new_waiter())

    def flush(self, waiter: W) -> W:
        """Empty everything everywhere; return what to wait for until that is done."""
        return self.run(self.desk.flush(), waiter)

    def clean(self, waiter: W) -> W:
        """Remove what has expired from the engine; return what to wait for."""
        return self.run(self.desk.clean(), waiter)

    def find_peers(self, found: set[str], waiter: W) -> W:
        """Add the other nodes that are alive to `found`; return what to wait for until that is done."""
        return self.run(self.desk.find_peers(found), waiter)

    def stats(self, dropped_resilience: int) -> LayerStats:
        """A snapshot."""
        # Not for ever: a signal handler that asks may have interrupted whoever holds it, in this very thread.
        is_locked = self.lock.acquire(timeout=_STATS_WITHIN)
        try:
            return LayerStats(
                node=self.node,
                delivered_total=self.router.counters.delivered,
                sent_total=self.counters.sent,
                batches_total=self.counters.batches,
                failed_total=self.counters.failed,
                dropped_overflow_total=self.router.counters.dropped_overflow,
                dropped_expired_total=self.router.counters.dropped_expired,
                dropped_resilience_total=dropped_resilience,
                skipped_frames_total=self.counters.skipped,
                gaps_total=self.counters.gaps,
                reconnects_total=self.counters.reconnects,
                channels_current=len(self.router.boxes),
                groups_current=len(self.router.groups),
                memberships_current=self.router.groups.memberships(),
                outbox_current=len(self.publisher),
            )
        finally:
            if is_locked:
                self.lock.release()
