"""The router of one node: takes what arrives and what is sent, and decides into which mailboxes it goes."""

from collections import deque
from collections.abc import Callable, Container

from channels_trunk.envelope import Envelope, Kind

from .effects import Effects, Waiter
from .groups import GroupIndex
from .mailbox import LONG, Entry, Mailbox, is_stale
from .shared import Body, SharedBody, packed

__all__ = ["Counters", "Router"]

# send() is refused at the capacity, by each sending node's own window. Nodes that fill a mailbox at the same moment
# may each have used up a window of their own; what they were allowed to send is kept, up to this many capacities.
_SLACK = 64
# How many envelopes are delivered before other tasks of the loop have their turn: about half a millisecond.
_AT_ONCE = 256
# How many messages to one group are delivered in one go through its members: under what a list holds.
_RUN = 12
_FOR_EVER = float("inf")
_CONTROL, _GROUP = int(Kind.CONTROL), int(Kind.GROUP)


FULL = object()
"""What send() returns for a channel that holds as many messages as it may."""


class Counters:
    """What became of messages at this node, since the node began."""

    __slots__ = ("delivered", "dropped_expired", "dropped_overflow", "last_expired")

    def __init__(self) -> None:
        self.delivered = 0
        self.dropped_expired = 0
        self.dropped_overflow = 0
        self.last_expired = ""  # the channel or group whose message expired last, for the log


class Router:
    """Pure state, guarded by the hub's lock; `now` is monotonic seconds everywhere."""

    def __init__(self, *, capacity_of: Callable[[str], int], group_expiry: float) -> None:
        self.counters = Counters()
        self.boxes: dict[str, Mailbox] = {}
        self.groups = GroupIndex()
        self.pressed: set[Mailbox] = set()  # mailboxes that fill while a woken receiver waits for its turn
        self._run = _RUN  # less if a mailbox is so small that it would go from half full to overflowing in one go
        self._capacity_of = capacity_of
        self._group_expiry = group_expiry or _FOR_EVER

    def box(self, channel: str) -> Mailbox:
        """The mailbox of `channel`, made if need be."""
        box = self.boxes.get(channel)
        if box is None:
            capacity = self._capacity_of(channel)
            box = self.boxes[channel] = Mailbox(channel, capacity)
            if capacity < self._run * 2:
                self._run = max(1, capacity // 2)
        return box

    # --- messages in

    def send(self, box: Mailbox, entry: Entry, now: float) -> Waiter | None:
        """Deliver a message of this node to a channel of this node; return the receiver to wake, or FULL."""
        messages = box.messages
        if messages and (len(messages) >= box.capacity or is_stale(messages, now)):
            self._drop_expired(box, now)
            if len(box.messages or ()) >= box.capacity:
                return FULL
        return self.admit(box, entry)

    def send_group(self, group: str, sent: list[tuple[float, bytes]], now: float, effects: Effects) -> None:
        """Deliver messages, in order, to every member of `group` at this node; a member that is full goes without."""
        members = self.groups.members(group)
        if members is None:
            return
        is_shared = len(members) > 1
        entries: list[Entry] = [(expires, SharedBody(body) if is_shared else body) for expires, body in sent]
        stale: list[Mailbox] | None = None
        wakes = effects.wakes
        count, at_once = len(entries), 0
        for box, ends in members.items():
            messages = box.messages
            held = count + len(messages) if messages else count
            if ends <= now or (messages and is_stale(messages, now)):
                stale = [*(stale or ()), box]
            elif held * 2 < box.capacity and held < LONG and box.waiters is None:
                # What admit() does, for members that hold little, as nearly all do: a quarter of its time.
                if messages:
                    messages.extend(entries)
                else:
                    box.messages = entries[:]
                at_once += count
                if box.waiter is not None:
                    box.signalled += 1
                    wakes.append(box.waiter)
                    box.waiter = None
            else:
                self._send_each(box, entries, effects)
        self.counters.delivered += at_once
        for box in stale or ():
            # An unread message that has expired means that nobody reads this channel any more.
            self._drop_expired(box, now)
            if members.get(box, _FOR_EVER) <= now:
                self.groups.discard(group, box)

    def _send_each(self, box: Mailbox, entries: list[Entry], effects: Effects) -> None:
        for entry in entries:
            if box.messages and len(box.messages) >= box.capacity:
                self._overflow(box, effects)
            elif (waiter := self.admit(box, entry)) is not None:
                effects.wakes.append(waiter)

    def arrive(
        self,
        backlog: deque[Envelope],
        *,
        now: float,
        wall: float,
        effects: Effects,
        control: Callable[[Envelope, Effects], None],
    ) -> None:
        """Deliver what came from other nodes, in order, and remove it from `backlog`; a bounded number.

        Stops early when a mailbox fills whose receiver was woken and only needs its turn on its loop: the caller goes
        on with the rest after that turn, so that a burst is not dropped in front of a receiver that keeps up.
        """
        offset = now - wall
        last = max(0, len(backlog) - _AT_ONCE)
        while len(backlog) > last:
            envelope = backlog.popleft()
            if envelope.kind == _CONTROL:
                control(envelope, effects)
            elif envelope.expires_at <= wall:
                self.counters.dropped_expired += 1
                self.counters.last_expired = envelope.target
            elif envelope.kind == _GROUP:
                self._arrive_at_group(envelope, backlog, offset, now, effects)
            else:
                self._arrive_at(self.box(envelope.target), (envelope.expires_at + offset, envelope.body), now, effects)
            if self.pressed:
                return

    def _arrive_at_group(
        self, envelope: Envelope, backlog: deque[Envelope], offset: float, now: float, effects: Effects
    ) -> None:
        """Deliver this message to a group, with those behind it to the same."""
        group, wall = envelope.target, now - offset
        entries = [(envelope.expires_at + offset, envelope.body)]
        while backlog and len(entries) < self._run:
            envelope = backlog[0]
            if envelope.kind != _GROUP or envelope.target != group or envelope.expires_at <= wall:
                break
            entries.append((envelope.expires_at + offset, envelope.body))
            del backlog[0]
        self.send_group(group, entries, now, effects)

    def _arrive_at(self, box: Mailbox, entry: Entry, now: float, effects: Effects) -> None:
        messages = box.messages
        if messages and (is_stale(messages, now) or len(messages) >= box.capacity * _SLACK):
            self._drop_expired(box, now)
            if len(box.messages or ()) >= box.capacity * _SLACK:
                self._overflow(box, effects)
                return
        waiter = self.admit(box, entry)
        if waiter is not None:
            effects.wakes.append(waiter)

    def admit(self, box: Mailbox, entry: Entry) -> Waiter | None:
        """Append a message, whatever the capacity; return the receiver to wake, the one that has waited longest."""
        box.append(entry)
        self.counters.delivered += 1
        waiter = None if box.waiter is None else box.next_waiter()
        if box.signalled and not box.late and len(box.messages or ()) * 2 >= box.capacity:
            self.pressed.add(box)
        return waiter

    def _overflow(self, box: Mailbox, effects: Effects) -> None:
        self.counters.dropped_overflow += 1
        effects.overflowed = box.channel

    # --- messages out

    def take(self, box: Mailbox, now: float) -> Body | None:
        """Remove and return the oldest message that has not expired, or None."""
        while box.messages and (first := box.pop()) is not None:
            if self.pressed and not box.pressed:
                self.pressed.discard(box)
            if first[0] > now:
                box.streak += 1
                return first[1]
            self.expired(box)
        return None

    def come(self, box: Mailbox, now: float) -> Body | None:
        """A woken receiver has come: do what take() does for it."""
        box.signalled -= 1
        box.late = False
        if self.pressed and not box.pressed:
            self.pressed.discard(box)
        return self.take(box, now)

    def expired(self, box: Mailbox, count: int = 1) -> None:
        """So many messages of a channel have expired and were removed: it leaves its groups."""
        self.counters.dropped_expired += count
        self.counters.last_expired = box.channel
        self.groups.discard_everywhere(box)

    def stop_stepping_aside(self) -> None:
        """The woken receivers of pressed mailboxes do not come: go on without them."""
        for box in self.pressed:
            box.late = True
        self.pressed.clear()

    def abandon(self, box: Mailbox, waiter: Waiter, effects: Effects) -> None:
        """A receiver gives up (it was cancelled, or timed out): nothing is lost, and its signal goes to the next."""
        if not box.remove_waiter(waiter):
            box.signalled -= 1
            if box.surplus and (following := box.next_waiter()) is not None:
                effects.wakes.append(following)
        if not box.pressed:
            self.pressed.discard(box)
        if box.idle:
            self._forget(box)

    def next_in_line(self) -> list[Waiter]:
        """One more receiver of each mailbox that holds messages and has receivers parked."""
        boxes = [box for box in self.boxes.values() if box.messages and box.waiter is not None]
        return [waiter for box in boxes if (waiter := box.next_waiter()) is not None]

    def surplus(self, box: Mailbox) -> list[tuple[float, bytes]]:
        """Remove and return, oldest first, the messages of a claimed channel for which no receiver is left."""
        messages = box.messages
        count = 0 if box.waiter is not None else box.surplus
        if messages is None or not count:
            return []
        taken = [messages.pop() for _ in range(count)]
        return [(expires, packed(body)) for expires, body in reversed(taken)]

    # --- groups

    def join(self, group: str, channel: str, now: float) -> None:
        """Add a channel of this node to a group, or renew it."""
        box = self.box(channel)
        box.own = True
        self.enter(group, box, now)

    def enter(self, group: str, box: Mailbox, now: float) -> None:
        """As join(), of a mailbox that is at hand."""
        if box.messages:
            self._drop_expired(box, now)  # which ends earlier memberships, and must not be found out later
        self.groups.add(group, box, now + self._group_expiry)

    def leave(self, group: str, channel: str) -> None:
        """Take a channel of this node out of a group."""
        box = self.boxes.get(channel)
        if box is None:
            return
        self.groups.discard(group, box)
        if box.idle:
            self._forget(box)

    def tell_members(self, entry: Entry, now: float, effects: Effects) -> None:
        """Put a message into each mailbox that has group memberships (the gap event)."""
        for box in list(self.boxes.values()):
            if box.groups and (waiter := self.send(box, entry, now)) not in (None, FULL):
                effects.wakes.append(waiter)

    # --- housekeeping

    def sweep(self, now: float) -> None:
        """Drop what has expired and forget mailboxes that hold nothing and that nobody waits at."""
        self.groups.drop_ended(now)
        for box in list(self.boxes.values()):
            if box.messages:
                self._drop_expired(box, now)
            if box.idle:
                self._forget(box)

    def flush(self, *, spare: Container[str] = ()) -> None:
        """Drop all memberships, and all messages but those of channels in `spare`; receivers go on waiting."""
        self.groups.clear()
        self.pressed.clear()
        for box in list(self.boxes.values()):
            if box.channel not in spare and box.messages is not None:
                box.messages.clear()  # also for a receiver that is about to pop
                box.messages = None
            if box.idle:
                self._forget(box)

    def _drop_expired(self, box: Mailbox, now: float) -> int:
        """Drop the expired messages of a mailbox; if there were any, the channel leaves its groups."""
        dropped = box.drop_expired(now)
        if dropped:
            self.expired(box, dropped)
        return dropped

    def _forget(self, box: Mailbox) -> None:
        if not box.said_full:
            self.boxes.pop(box.channel, None)
