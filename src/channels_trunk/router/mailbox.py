"""The bounded, expiring, in-memory FIFO of one channel, with the receivers that wait for it.

Signal, then take: a receiver that waits is woken when a message has come, but the message stays here until the
receiver's own task takes it. A receiver cancelled in between loses nothing; it only hands its signal on.

One thing happens without the hub's lock, which would be a sixth of what a delivery costs: a receiver pops the first
message of a *list* (Hub.receive). A pop is atomic, so nobody gets what another has; and all others, who do hold the
lock, bear that a list becomes shorter under their hands at any time: they never take for granted that it has a first
message, and never put a copy in the place of a list that is not empty, but move its messages one by one, the last one
first: what the receiver pops meanwhile is older than all that are moved.
"""

from collections import deque
from contextlib import suppress

from .effects import Waiter
from .shared import Body

__all__ = ["LONG", "Entry", "Mailbox", "is_stale"]

LONG = 16
"""How many messages are too many for a list."""

Entry = tuple[float, Body]
"""(expires at, in monotonic seconds; packed body); one entry is shared by all members of a group."""


def is_stale(messages: list[Entry] | deque[Entry], now: float) -> bool:
    """Whether the first of these has expired."""
    try:
        return messages[0][0] <= now
    except IndexError:
        return False


class Mailbox:
    """One channel. Every field is guarded by the hub's lock, but see above for `messages`.

    Memory counts here, as a server has one for each socket: no deque until a message comes (an empty one takes 600
    bytes), and the first waiter, which is nearly always the only one, has a slot of its own.
    """

    __slots__ = (
        "capacity",
        "channel",
        "groups",
        "late",
        "messages",
        "own",
        "said_full",
        "signalled",
        "streak",
        "waiter",
        "waiters",
    )

    def __init__(self, channel: str, capacity: int) -> None:
        self.channel = channel
        self.capacity = capacity
        self.messages: list[Entry] | deque[Entry] | None = None  # a list as long as it is short; see append()
        self.waiter: Waiter | None = None
        self.waiters: dict[Waiter, None] | None = None  # those behind the first, in order of coming
        self.groups: set[str] | str | None = None  # a single group, as most have, without a set's 216 bytes
        self.signalled = 0  # receivers that were woken and have not come to take yet
        self.late = False  # a woken receiver has had its turns and did not come: nobody steps aside for it any more
        self.own = False  # whether it is known to be a channel that new_channel() of this node made
        self.streak = 0  # messages taken since a receiver last waited
        self.said_full = False  # another node knows that this mailbox is full and waits to hear that it has drained

    @property
    def idle(self) -> bool:
        """Whether nothing is lost by forgetting this mailbox."""
        return not (self.messages or self.waiter is not None or self.signalled or self.groups)

    @property
    def pressed(self) -> bool:
        """Whether it fills while a receiver has been woken and only needs its turn."""
        return self.signalled > 0 and self.messages is not None and len(self.messages) * 2 >= self.capacity

    @property
    def surplus(self) -> int:
        """How many messages no woken receiver will come for."""
        return max(0, len(self.messages or ()) - self.signalled)

    def room(self, now: float) -> int:
        """How many more messages it takes; expired ones do not count."""
        messages = self.messages
        if not messages:
            return self.capacity
        if len(messages) >= self.capacity:
            return self.capacity - sum(1 for expires, _ in messages if expires > now)
        return self.capacity - len(messages)

    def append(self, entry: Entry) -> None:
        """Add a message behind the others.

        A few are in a list, which is made and freed in a third of the time and a tenth of the memory of a deque.
        """
        messages = self.messages
        if messages is None:
            self.messages = [entry]
            return
        messages.append(entry)
        if messages.__class__ is list and len(messages) == LONG:
            moved: deque[Entry] = deque()
            with suppress(IndexError):
                while True:
                    moved.appendleft(messages.pop())
            self.messages = moved

    def pop(self) -> Entry | None:
        """Remove and return the oldest message, if there is one."""
        messages = self.messages
        try:
            return messages.pop(0) if isinstance(messages, list) else messages.popleft() if messages else None
        except IndexError:
            return None

    def next_waiter(self) -> Waiter | None:
        """Pop the receiver that has waited longest; it counts as signalled until it takes or gives up."""
        waiter = self.waiter
        if waiter is not None:
            self.signalled += 1
            self._shift()
        return waiter

    def _shift(self) -> None:
        self.waiter = None
        if self.waiters:
            self.waiter = next(iter(self.waiters))
            del self.waiters[self.waiter]
            if not self.waiters:
                self.waiters = None

    def add_waiter(self, waiter: Waiter) -> None:
        """Park a receiver behind those that wait already."""
        if self.waiter is None:
            self.waiter = waiter
            if not self.messages:
                self.messages = None
        elif self.waiters is None:
            self.waiters = {waiter: None}
        else:
            self.waiters[waiter] = None

    def remove_waiter(self, waiter: Waiter) -> bool:
        """Forget a receiver; False if it had been signalled already."""
        if self.waiter is waiter:
            self._shift()
            return True
        if self.waiters is not None and waiter in self.waiters:
            del self.waiters[waiter]
            return True
        return False

    def all_waiters(self) -> list[Waiter]:
        """The receivers that are parked; they stay parked."""
        return [] if self.waiter is None else [self.waiter, *(self.waiters or ())]

    def waiting(self) -> int:
        """How many receivers are parked."""
        return (self.waiter is not None) + len(self.waiters or ())

    def drop_expired(self, now: float) -> int:
        """Remove every expired message; return how many there were."""
        messages = self.messages
        if not messages:
            return 0
        expired = [entry for entry in messages if entry[0] <= now]
        if isinstance(messages, list):
            return sum(_removed(messages, entry) for entry in expired)
        if expired:
            fresh = [entry for entry in messages if entry[0] > now]
            self.messages = (deque(fresh) if len(fresh) >= LONG else fresh) or None
        return len(expired)


def _removed(messages: list[Entry], entry: Entry) -> bool:
    try:
        messages.remove(entry)
    except ValueError:
        return False  # somebody has it
    return True
