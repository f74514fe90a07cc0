"""The contract between the hub and a transport. To add an engine, read this file, then `memory.py`.

A transport moves envelopes and keeps normal channels; it knows nothing of consumers, capacities of mailboxes or loops.
What the hub promises to it:

- `open` comes first, and again after `sink.lost(...)` or `close`; the async methods run on the hub's own loop, one
  `publish` at a time, in the order in which envelopes were sent.
- nothing is published, claimed or watched while the transport is not open: it waits in the hub.
- `close` follows an `open` that failed, too, and comes before each further `open`.
- every async call is watched. One that has not returned within `send_timeout` is cancelled, the connection counts as
  lost, and the call's name stands in the log and in health(). `open` and `maintain` have 30 seconds, `trim` has ten
  minutes, `close` has five seconds. Calls of an embedded transport never wait, and are not watched.
- a call is also cancelled when the connection is lost or the layer is closed. What a cancelled `claim` took and did not
  return must go back or stay with the engine. A cancelled call ends soon: it does not wait for the engine once more.

What a transport promises:

- envelopes published by one node reach each other node in that order, at most once; a node's own come back to nobody.
- driver errors become `TransportUnavailable` (the batch was not stored, or nobody can know), `Busy` (it certainly was
  not, try again), `TooLarge` or, from `open` alone, another `ChannelLayerError` that only a person can mend.
- what it holds and lost is told by `sink.gap(...)`, not before what is sent from then on is heard.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from channels_trunk.clock import Clock
from channels_trunk.codec import Codec
from channels_trunk.envelope import Envelope

__all__ = [
    "LAST_PAGE",
    "Busy",
    "Capabilities",
    "Claimed",
    "EmbeddedTransport",
    "NodeContext",
    "Page",
    "ReadableTransport",
    "Sink",
    "StartingTransport",
    "TooLarge",
    "Transport",
]


class Busy(Exception):
    """Another process holds the engine's lock: nothing was done, try again."""


class TooLarge(Exception):
    """The engine takes nothing so large, for a reason that names its limit and the remedy; raised by a publish.

    By its `indexes`, envelopes of the batch each of which is too large, while the engine has the others, but for those
    that are `full`. Without them it is the batch as a whole, of which nothing was done: of less it may take each.
    """

    def __init__(self, reason: str, indexes: Sequence[int] = (), *, full: Sequence[int] = ()) -> None:
        super().__init__(reason)
        self.indexes = indexes
        self.full = full


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the hub must know of a transport; data, so that nobody asks for a transport's class."""

    crosses_processes: bool
    inline: bool = False
    """Callers' own threads may drive it: it is an EmbeddedTransport, and no method of it ever waits for a lock."""
    needs_interest: bool = False
    """Only groups named by `interest` are heard; otherwise a node hears every group."""
    claims_ahead: bool = False
    """A claim takes long beside a short job: claim() is asked for some more than there are receivers waiting."""
    knows_after: bool = False
    """What became of a publish that was cut off is known after the next open(): the hub hands the same envelopes, or
    those at the end of them that have time left, to publish() again, first of all and by themselves."""
    starts: bool = False
    """Callers' own threads may begin a publish: it is a StartingTransport."""


class Claimed(NamedTuple):
    """A message taken out of a normal channel; `expires_at` is wall-clock seconds."""

    channel: str
    expires_at: float
    body: bytes


class Page(NamedTuple):
    """What one read found."""

    envelopes: Sequence[Envelope]
    more: bool
    """Whether another read may find more at once."""


LAST_PAGE = Page((), more=False)


class Sink(Protocol):
    """What a transport tells its hub. Every method may be called in any thread and returns at once."""

    def received(self, envelopes: Sequence[Envelope]) -> None:
        """Envelopes for this node have come, in order."""
        ...

    def available(self, channels: Sequence[str]) -> None:
        """Normal channels that are watched may hold messages; a hint."""
        ...

    def gap(self, reason: str) -> None:
        """Messages for this node may have been lost."""
        ...

    def lost(self, error: BaseException) -> None:
        """The engine is away; the hub will call `open` again."""
        ...

    def skipped(self, error: Exception) -> None:
        """A frame could not be decoded and was skipped."""
        ...

    def dropped(self, channel: str) -> None:
        """A normal channel in a group was full and went without a message."""
        ...

    def engine_time(self, now: float) -> None:
        """It is now so many wall-clock seconds by the engine's clock, and `NodeContext.clock` is to go by that."""
        ...

    def maintain_soon(self) -> None:
        """There is work for `maintain` before its time."""
        ...

    def stalled(self, reason: str) -> None:
        """The connection stands, but the engine takes no messages now, for this reason; "": it does again."""
        ...

    def hampered(self, reason: str) -> None:
        """Messages go and come, but later or less surely than they could, for this reason; "": no more."""
        ...


class NodeContext(NamedTuple):
    """What a transport is told about the node it serves."""

    node: str
    prefix: str
    codec: Codec
    sink: Sink
    clock: Clock
    capacity_of: Callable[[str], int]
    """The capacity of a normal channel."""


class Transport(ABC):
    """Moves envelopes between nodes. All methods run on the hub's loop unless their text says otherwise."""

    capabilities: Capabilities

    @abstractmethod
    async def open(self, context: NodeContext) -> None:
        """Connect and take part: envelopes published by others after this returned reach `context.sink`."""

    @abstractmethod
    async def publish(self, batch: Sequence[Envelope]) -> Sequence[int]:
        """Send a batch; return the indexes of those refused because their normal channel is full.

        A batch has a mebibyte of bodies at most, or one envelope that is larger.
        """

    @abstractmethod
    async def claim(self, channel: str, limit: int) -> Sequence[Claimed]:
        """Take up to `limit` unexpired messages out of a normal channel, oldest first; nobody else gets them.

        It may be more of them if they were put back together, and are not to be taken apart.
        """

    @abstractmethod
    async def restore(self, claimed: Sequence[Claimed]) -> None:
        """Put claimed messages back to the front of their channels, in their order."""

    @abstractmethod
    async def watch(self, channels: frozenset[str]) -> None:
        """From now on tell the sink when these normal channels, and no others, get messages."""

    def brings(self, channel: str) -> bool:
        """Whether a claim of this watched channel would find nothing now, and the sink is to be told of what comes.

        Any thread, by a receiver that waits already. Where it becomes false again the sink is told.
        """
        return False

    async def interest(self, groups: frozenset[str]) -> None:
        """From now on hear these groups, perhaps others; only called if `capabilities.needs_interest`.

        It is called every few seconds, whether anything has changed or not: only the transport knows what it hears.
        What start_hearing() was asked for since narrow() must be heard all the same.
        """

    async def hear(self, groups: frozenset[str]) -> None:
        """From now on hear these groups as well; only called after interest(), over the same connection.

        What a join costs must not grow with the groups that are heard already.
        """

    def narrow(self, groups: frozenset[str]) -> None:
        """From now on hears() is false for groups that are heard only because of groups that are not in `groups`.

        Called with the hub's lock held, just before `interest(groups)`; no I/O. So a member that joins meanwhile either
        is in `groups`, or finds that its group is not heard.
        """

    def hears(self, group: str) -> bool:
        """Whether what is sent to this group from now on reaches this node; any thread, with the hub's lock held.

        The hub goes by it, and keeps no note of its own. So it is false for what interest() or hear() was asked for and
        did not return, or narrow() took away, whatever became of that; and after open() it is true only of what is
        heard still. It may be true while the engine is away, if what is sent meanwhile comes afterwards.
        """
        return False

    @abstractmethod
    async def bind(self, group: str, channel: str, expires_at: float) -> None:
        """Add a normal channel to a group until `expires_at` (wall-clock seconds, or infinity).

        Only that time, unbind() and purge() end the membership: not a message that expires unread, nor the end of any
        process. A worker that was away must not be deaf in silence.
        """

    @abstractmethod
    async def unbind(self, group: str, channel: str) -> None:
        """Take a normal channel out of a group."""

    @abstractmethod
    async def peers(self) -> frozenset[str]:
        """The ids of the other nodes that are alive, as far as can be known."""

    @abstractmethod
    async def purge(self) -> None:
        """Remove every stored message and every normal channel's membership (for flush)."""

    async def drop(self) -> None:
        """Forget messages that purge() could not remove: this node has them at hand, or was to give them back.

        Called at every node before one of them calls purge(), and in between no claim(), nor restore(). Only called if
        `capabilities.claims_ahead`.
        """

    async def trim(self) -> None:
        """Remove what has expired, now, where maintain() does not do so by itself.

        If there may be much, in steps: other calls come in between.
        """

    @abstractmethod
    async def maintain(self) -> float:
        """Do what must be done now and then; return in how many seconds to call again.

        Raising TransportUnavailable means that the engine is away.

        Unlike the other methods it may run while another thread is in a method of an EmbeddedTransport.
        """

    @abstractmethod
    async def close(self, *, leave: bool) -> None:
        """Free every resource; never raises. `open` may follow.

        With `leave` the node gives up its place; without, the connection was lost and open() is to go on where it was.
        """

    def hold(self) -> None:
        """A fork is about to copy the process: see to it that no thread is inside the engine's client library."""

    def release(self) -> None:
        """The fork is over, and this is the parent."""

    def abandon(self) -> None:
        """Called in the child after a fork: free what was inherited, without touching what the parent owns."""


class StartingTransport(Transport):
    """A network transport to which any thread may hand a batch, so that it is on its way without a hop.

    The hub sees to it that no publish begins before the one before it has ended, start() and finish() included.
    """

    @abstractmethod
    def start(self, batch: Sequence[Envelope], done: Callable[[Sequence[int] | None], None]) -> bool:
        """Begin to publish in this thread: send what there is to send, and do not wait; False if nothing was done.

        If it is true, `done` is called once, in any thread: with what publish() would return, or with None if there is
        more to do than the caller's thread can; then finish() follows, on the hub's loop. Any thread, also while
        another method runs, or close().
        """

    @abstractmethod
    async def finish(self) -> Sequence[int]:
        """Do the rest of what start() began; as publish()."""

    def start_hearing(self, groups: Collection[str], done: Callable[[bool], None]) -> bool:
        """Begin to hear these groups as well, in this thread: ask the engine, and do not wait; False: call hear().

        If it is true, `done` is called once, in any thread, unless close() comes before: whether they are heard; if
        they are not, hear() follows. Any thread, also while another method runs, or close(), and for other groups
        before `done` was called.
        """
        return False

    def attend(self, seconds: float) -> None:
        """Wait in this thread, in which start() was called, until `done` was called, for at most so many seconds.

        It may return early: then the hub's thread calls `done`.
        """


class ReadableTransport(Transport):
    """A transport that any thread may read, so that the receiver can be the reader: a hop between threads costs 40 us.

    The methods here never wait. The hub sees to it that only one thread is in `read_now` and `queues_now` at a time.
    """

    def read_now(self) -> Page:
        """Return the next page of envelopes for this node; what is appended after a last page rings the doorbell."""
        return LAST_PAGE

    def queues_now(self) -> Sequence[str]:
        """Return the watched normal channels that hold messages; called after the last page, in the same thread."""
        return ()

    def changed(self) -> bool:
        """Whether read_now() would find something; cheap, asked now and then on the hub's loop."""
        return False

    def polling_interval(self) -> float | None:
        """Seconds between two calls of changed() now, because a ring may be lost; None: none is."""
        return None

    def doorbell(self) -> int | None:
        """A file descriptor that becomes readable when there is something to read, or None.

        An EmbeddedTransport's is left alone for up to 10 ms where read_now() again and again finds nothing.
        """
        return None

    def answer_doorbell(self) -> None:
        """Take the rings off the doorbell, before read_now()."""

    def leave_doorbell(self) -> None:
        """Nobody watches the doorbell any more, nor calls read_now(), until doorbell() is asked for again."""


class EmbeddedTransport(ReadableTransport):
    """A transport that any thread may drive in place, because its calls take microseconds.

    The methods here never wait: where another process holds a lock they raise Busy. Nor do the async methods suspend.
    The hub sees to it that only one thread is in `publish_now`, `claim_now` or an async method (but `maintain`) at a
    time.
    """

    @abstractmethod
    def publish_now(self, batch: Sequence[Envelope]) -> Sequence[int]:
        """As publish()."""

    @abstractmethod
    def claim_now(self, channel: str, limit: int) -> Sequence[Claimed]:
        """As claim()."""

    async def publish(self, batch: Sequence[Envelope]) -> Sequence[int]:
        """Publish in place."""
        return self.publish_now(batch)

    async def claim(self, channel: str, limit: int) -> Sequence[Claimed]:
        """Claim in place."""
        return self.claim_now(channel, limit)
