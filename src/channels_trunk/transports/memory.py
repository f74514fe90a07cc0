"""The memory transport: nodes of one process, found by prefix. The shortest reading of the contract."""

import threading
from collections import deque
from collections.abc import Sequence

from channels_trunk.envelope import EVERY_NODE, Envelope, Kind
from channels_trunk.names import channel_owner
from channels_trunk.stats import Survey

from .base import Capabilities, Claimed, EmbeddedTransport, NodeContext

__all__ = ["MemoryTransport", "survey"]


class _Bus:
    """What the nodes with one prefix share. Every field is guarded by `_lock`."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeContext] = {}
        self.queues: dict[str, deque[Claimed]] = {}
        self.members: dict[str, dict[str, float]] = {}  # group to normal channels, each with the membership's end
        self.watches: dict[str, frozenset[str]] = {}  # node to the normal channels it waits for


_lock = threading.Lock()
_buses: dict[str, _Bus] = {}  # guarded by _lock


def survey(name: str) -> Survey:
    """What waits in the normal channels of this process."""
    with _lock:
        bus = _buses.get(name)
        waiting = {} if bus is None else {channel: len(queue) for channel, queue in bus.queues.items() if queue}
    return Survey(waiting=waiting, log_rows=None, size_bytes=None)


class MemoryTransport(EmbeddedTransport):
    """Hands envelopes to the sinks of the other nodes in the sender's own thread; it is gone with the process."""

    capabilities = Capabilities(crosses_processes=False, inline=True)

    def __init__(self, name: str) -> None:
        self._name = name
        self._bus = _Bus()
        self._context: NodeContext | None = None

    async def open(self, context: NodeContext) -> None:
        """Join the bus of this name."""
        with _lock:
            self._context = context
            self._bus = _buses.setdefault(self._name, _Bus())
            self._bus.nodes[context.node] = context

    def publish_now(self, batch: Sequence[Envelope]) -> Sequence[int]:
        """Queue what is for normal channels, then hand the rest to each node it concerns."""
        context = self._opened()
        refused = []
        inbound: dict[str, list[Envelope]] = {}
        queued: set[str] = set()
        with _lock:
            for index, envelope in enumerate(batch):
                if envelope.kind == Kind.QUEUE:
                    if not self._enqueue(envelope.target, envelope, queued):
                        refused.append(index)
                    continue
                for channel in self._normal_members(envelope):
                    if not self._enqueue(channel, envelope, queued):
                        context.sink.dropped(channel)
                for node in self._receivers(envelope):
                    inbound.setdefault(node, []).append(envelope)
            sinks = [(self._bus.nodes[node].sink, envelopes) for node, envelopes in inbound.items()]
            watchers = [(self._bus.nodes[node].sink, queued & names) for node, names in self._bus.watches.items()]
        for sink, envelopes in sinks:
            sink.received(envelopes)
        for sink, channels in watchers:
            if channels:
                sink.available(sorted(channels))
        return refused

    def _receivers(self, envelope: Envelope) -> Sequence[str]:
        nodes = self._bus.nodes
        target = envelope.target
        if envelope.kind == Kind.GROUP or target == EVERY_NODE:
            return [node for node in nodes if node != self._opened().node]
        owner = channel_owner(target) if envelope.kind == Kind.MAILBOX else target
        return [owner] if owner in nodes else []

    def _normal_members(self, envelope: Envelope) -> Sequence[str]:
        members = self._bus.members.get(envelope.target) if envelope.kind == Kind.GROUP else None
        if not members:
            return ()
        now = self._opened().clock.wall()
        return [channel for channel, expires_at in members.items() if expires_at > now]

    def _enqueue(self, channel: str, envelope: Envelope, queued: set[str]) -> bool:
        context = self._opened()
        queue = self._bus.queues.setdefault(channel, deque())
        now = context.clock.wall()
        if queue and (queue[0].expires_at <= now or len(queue) >= context.capacity_of(channel)):
            _drop_expired(queue, now)
            if len(queue) >= context.capacity_of(channel):
                return False
        queue.append(Claimed(channel, envelope.expires_at, envelope.body))
        queued.add(channel)
        return True

    def claim_now(self, channel: str, limit: int) -> Sequence[Claimed]:
        """Pop from the left."""
        with _lock:
            queue = self._bus.queues.get(channel)
            if not queue:
                return []
            _drop_expired(queue, self._opened().clock.wall())
            claimed = [queue.popleft() for _ in range(min(limit, len(queue)))]
            if not queue:
                del self._bus.queues[channel]
            return claimed

    async def restore(self, claimed: Sequence[Claimed]) -> None:
        """Push to the left, the newest first."""
        with _lock:
            for message in reversed(claimed):
                self._bus.queues.setdefault(message.channel, deque()).appendleft(message)
            channels = {message.channel for message in claimed}
            watchers = [(self._bus.nodes[node].sink, channels & names) for node, names in self._bus.watches.items()]
        for sink, wanted in watchers:
            if wanted:
                sink.available(sorted(wanted))

    async def watch(self, channels: frozenset[str]) -> None:
        """Remember them."""
        with _lock:
            self._bus.watches[self._opened().node] = channels

    async def bind(self, group: str, channel: str, expires_at: float) -> None:
        """Remember the membership."""
        with _lock:
            self._bus.members.setdefault(group, {})[channel] = expires_at

    async def unbind(self, group: str, channel: str) -> None:
        """Forget the membership."""
        with _lock:
            self._bus.members.get(group, {}).pop(channel, None)

    async def peers(self) -> frozenset[str]:
        """Everyone on the bus but this node."""
        with _lock:
            return frozenset(self._bus.nodes) - {self._opened().node}

    async def purge(self) -> None:
        """Empty the queues and the memberships."""
        with _lock:
            self._bus.queues.clear()
            self._bus.members.clear()

    async def maintain(self) -> float:
        """Drop what has expired."""
        with _lock:
            now = self._opened().clock.wall()
            for channel, queue in list(self._bus.queues.items()):
                _drop_expired(queue, now)
                if not queue:
                    del self._bus.queues[channel]
            for group, members in list(self._bus.members.items()):
                self._bus.members[group] = {name: ends for name, ends in members.items() if ends > now}
                if not self._bus.members[group]:
                    del self._bus.members[group]
        return 15.0

    async def close(self, *, leave: bool) -> None:
        """Leave the bus; the last to leave takes it away. A connection that is merely lost keeps the place on it."""
        if not leave:
            return
        with _lock:
            if self._context is None:
                return
            node, self._context = self._context.node, None
            self._bus.nodes.pop(node, None)
            self._bus.watches.pop(node, None)
            if not self._bus.nodes and _buses.get(self._name) is self._bus:
                del _buses[self._name]

    def abandon(self) -> None:
        """The child of a fork begins with an empty bus: another thread of the parent may have held the lock."""
        global _lock
        _lock = threading.Lock()
        _buses.pop(self._name, None)
        self._context = None

    def _opened(self) -> NodeContext:
        if self._context is None:
            raise RuntimeError("the memory transport is not open")
        return self._context


def _drop_expired(queue: deque[Claimed], now: float) -> None:
    if any(message.expires_at <= now for message in queue):
        fresh = [message for message in queue if message.expires_at > now]
        queue.clear()
        queue.extend(fresh)
