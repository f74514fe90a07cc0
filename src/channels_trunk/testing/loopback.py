"""The far side of the loopback transport: an engine inside one process, reached as if over a network.

It does what a message broker does: it keeps a place for each node, in which frames wait while the node's connection is
gone; it routes groups to the nodes that asked for them; it holds normal channels. And it can be told to be away, to
hang, to refuse, and to lose what it holds.
"""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

from channels_trunk.envelope import EVERY_NODE, Envelope, Kind
from channels_trunk.exceptions import ChannelLayerError, TransportUnavailable
from channels_trunk.names import channel_owner
from channels_trunk.transports.base import NodeContext

__all__ = ["LoopbackServer", "Stored", "forget_server", "loopback_server"]


class Stored(NamedTuple):
    """A message in a normal channel: the frame that carries it, so that the server cannot read it."""

    channel: str
    expires_at: float
    frame: bytes


class Connection(Protocol):
    """A node's line to the server. Every method may be called in any thread and returns at once."""

    def wake(self) -> None:
        """There is something at the node's place."""
        ...

    def cut(self, error: TransportUnavailable) -> None:
        """The connection is gone."""
        ...

    def released(self) -> None:
        """The server answers again."""
        ...


class Place:
    """What the server keeps for one node, connected or not."""

    def __init__(self) -> None:
        self.groups: frozenset[str] = frozenset()
        self.watched: frozenset[str] = frozenset()
        self.frames: deque[bytes] = deque()
        self.hints: set[str] = set()
        self.connection: Connection | None = None


class LoopbackServer:
    """The engine. Every method may be called in any thread; faults are for tests to inject."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[str, Place] = {}  # guarded by _lock, as all below
        self._queues: dict[str, deque[Stored]] = {}
        self._members: dict[str, dict[str, float]] = {}
        self._lost: set[str] = set()  # nodes whose places were lost
        self._lines: weakref.WeakSet[Connection] = weakref.WeakSet()  # every one that may be waiting for an answer
        self._failing_opens = 0
        self._running = True
        self._refusal: Callable[[], ChannelLayerError] | None = None
        self._calls_left: int | None = None
        self.hanging = False
        self.opens_total = 0

    # --- faults, for tests

    def stop(self) -> None:
        """Cut every connection and take no new one until start()."""
        self._running = False
        self.drop_connections()

    def start(self) -> None:
        """Take connections again."""
        self._running = True

    def drop_connections(self, *, failing_opens: int = 0) -> None:
        """Cut every connection; so many attempts to open another fail."""
        with self._lock:
            self._failing_opens = failing_opens
            cut = [place.connection for place in self._places.values() if place.connection is not None]
            for place in self._places.values():
                place.connection = None
        for connection in cut:
            connection.cut(TransportUnavailable("the loopback server cut the connection"))

    def drop_after(self, calls: int | None) -> None:
        """Cut every connection each time that it was called so often (None: never): it flaps."""
        self._calls_left = calls

    def hang(self) -> None:
        """Answer no call until release()."""
        self.hanging = True

    def release(self) -> None:
        """Answer again, those that are waiting included."""
        self.hanging = False
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            line.released()

    def refuse(self, error: Callable[[], ChannelLayerError] | None) -> None:
        """Have every open() raise this, which a person must mend; None: no more."""
        self._refusal = error

    def lose_places(self) -> None:
        """Forget every node and what waits for it, as an engine that crashed without its data."""
        with self._lock:
            self._lost |= set(self._places)
            connections = [place.connection for place in self._places.values() if place.connection is not None]
            self._places.clear()
        for connection in connections:
            connection.cut(TransportUnavailable("the loopback server crashed"))

    def lose_all(self) -> None:
        """Forget the normal channels, too."""
        self.purge()
        self.lose_places()

    # --- what a connection does

    def dialled(self, connection: Connection) -> None:
        """Somebody is about to connect: release() concerns it from now on."""
        with self._lock:
            self._lines.add(connection)

    def connect(self, node: str, connection: Connection) -> bool:
        """Take a node in; whether what waited for it was lost. Raises what the faults say."""
        with self._lock:
            self.opens_total += 1
            if self._refusal is not None:
                raise self._refusal()
            if self._failing_opens or not self._running:
                self._failing_opens = max(0, self._failing_opens - 1)
                raise TransportUnavailable("the loopback server is not running")
            place = self._places.setdefault(node, Place())
            place.connection = connection
            lost = node in self._lost
            self._lost.discard(node)
        connection.wake()
        return lost

    def called(self, node: str, connection: Connection) -> None:
        """A call has come in over this connection; raises TransportUnavailable if the connection is gone."""
        if self._calls_left is not None:
            self._calls_left -= 1
            if self._calls_left <= 0:
                self._calls_left = None
                self.drop_connections()
        with self._lock:
            place = self._places.get(node)
            if place is None or place.connection is not connection:
                raise TransportUnavailable("the connection to the loopback server is gone")

    def disconnect(self, node: str, connection: Connection, *, leave: bool) -> None:
        """End a connection; with `leave` the place goes, too."""
        with self._lock:
            place = self._places.get(node)
            if place is None or place.connection not in (None, connection):
                return
            place.connection = None
            if leave:
                del self._places[node]

    def take(self, node: str) -> tuple[list[bytes], list[str]]:
        """Remove and return the frames and hints that wait for a node."""
        with self._lock:
            place = self._places.get(node)
            if place is None:
                return [], []
            frames, hints = list(place.frames), sorted(place.hints)
            place.frames.clear()
            place.hints.clear()
            return frames, hints

    def accept(self, batch: Sequence[Envelope], context: NodeContext) -> tuple[list[int], list[str]]:
        """Route a batch; return the indexes that were refused, and the group members that were full."""
        refused, full = [], []
        inbound: dict[str, list[Envelope]] = {}
        queued: set[str] = set()
        with self._lock:
            for index, envelope in enumerate(batch):
                if envelope.kind == Kind.QUEUE:
                    if not self._enqueue(envelope.target, envelope, context):
                        refused.append(index)
                    queued.add(envelope.target)
                    continue
                for channel in self._normal_members(envelope, context):
                    queued.add(channel)
                    if not self._enqueue(channel, envelope, context):
                        full.append(channel)
                for node in self._receivers(envelope, context.node):
                    inbound.setdefault(node, []).append(envelope)
            for node, envelopes in inbound.items():
                self._places[node].frames.append(context.codec.encode_frame(context.node, envelopes))
            woken = self._wake(set(inbound), queued)
        for connection in woken:
            connection.wake()
        return refused, full

    def claim(self, channel: str, limit: int, context: NodeContext) -> list[Stored]:
        """Take messages out of a normal channel."""
        with self._lock:
            self._drop_expired(channel, context.clock.wall())
            queue = self._queues.get(channel, deque())
            return [queue.popleft() for _ in range(min(limit, len(queue)))]

    def restore(self, messages: Sequence[Stored]) -> None:
        """Put messages back to the front."""
        with self._lock:
            for message in reversed(messages):
                self._queues.setdefault(message.channel, deque()).appendleft(message)
            woken = self._wake(set(), {message.channel for message in messages})
        for connection in woken:
            connection.wake()

    def set_watched(self, node: str, channels: frozenset[str]) -> None:
        """Remember which normal channels a node wants to hear of."""
        with self._lock:
            self._places[node].watched = channels

    def set_groups(self, node: str, groups: frozenset[str]) -> None:
        """Remember which groups a node wants to hear."""
        with self._lock:
            self._places[node].groups = groups

    def add_groups(self, node: str, groups: Collection[str]) -> None:
        """Remember groups that a node wants to hear as well."""
        with self._lock:
            if (place := self._places.get(node)) is not None:
                place.groups |= frozenset(groups)

    def bind(self, group: str, channel: str, expires_at: float) -> None:
        """Add a normal channel to a group."""
        with self._lock:
            self._members.setdefault(group, {})[channel] = expires_at

    def unbind(self, group: str, channel: str) -> None:
        """Take a normal channel out of a group."""
        with self._lock:
            self._members.get(group, {}).pop(channel, None)

    def nodes(self) -> frozenset[str]:
        """Every node that has a place."""
        with self._lock:
            return frozenset(self._places)

    def purge(self) -> None:
        """Empty the normal channels and their memberships."""
        with self._lock:
            self._queues.clear()
            self._members.clear()

    def tidy(self, now: float) -> None:
        """Drop what has expired."""
        with self._lock:
            for channel in list(self._queues):
                self._drop_expired(channel, now)
            self._queues = {channel: queue for channel, queue in self._queues.items() if queue}

    # --- with the lock held

    def _wake(self, nodes: set[str], queued: set[str]) -> list[Connection]:
        for node, place in self._places.items():
            if hints := place.watched & queued:
                place.hints |= hints
                nodes.add(node)
        return [place.connection for node in nodes if (place := self._places[node]).connection is not None]

    def _receivers(self, envelope: Envelope, origin: str) -> list[str]:
        target = envelope.target
        if envelope.kind == Kind.GROUP:
            return [node for node, place in self._places.items() if node != origin and target in place.groups]
        if target == EVERY_NODE:
            return [node for node in self._places if node != origin]
        owner = channel_owner(target) if envelope.kind == Kind.MAILBOX else target
        return [owner] if owner in self._places else []

    def _normal_members(self, envelope: Envelope, context: NodeContext) -> list[str]:
        if envelope.kind != Kind.GROUP:
            return []
        now = context.clock.wall()
        return [channel for channel, ends in self._members.get(envelope.target, {}).items() if ends > now]

    def _enqueue(self, channel: str, envelope: Envelope, context: NodeContext) -> bool:
        self._drop_expired(channel, context.clock.wall())
        queue = self._queues.setdefault(channel, deque())
        if len(queue) >= context.capacity_of(channel):
            return False
        # Also of a message to a group: whoever claims it looks whether it lies where it belongs.
        stored = Envelope(Kind.QUEUE, channel, envelope.expires_at, envelope.body)
        frame = context.codec.encode_frame(context.node, [stored])
        queue.append(Stored(channel, envelope.expires_at, frame))
        return True

    def _drop_expired(self, channel: str, now: float) -> None:
        queue = self._queues.get(channel, deque())
        fresh = [message for message in queue if message.expires_at > now]
        if len(fresh) < len(queue):
            self._queues[channel] = deque(fresh)


_registry_lock = threading.Lock()
_servers: "weakref.WeakValueDictionary[str, LoopbackServer]" = (
    weakref.WeakValueDictionary()
)  # guarded by _registry_lock


def loopback_server(name: str) -> LoopbackServer:
    """The server of this name; it lives for as long as somebody holds it."""
    with _registry_lock:
        server = _servers.get(name)
        if server is None:
            server = _servers[name] = LoopbackServer()
        return server


def forget_server(name: str) -> None:
    """In the child of a fork: the next loopback_server() makes a new one, as the parent's lock may be held."""
    global _registry_lock
    _registry_lock = threading.Lock()
    _servers.pop(name, None)
