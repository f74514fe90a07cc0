"""A transport and its layer as somebody else's package would have them: whole, small, with nothing of ours but the API.

The engine is a board inside the process, which holds bytes as a server would. There is no I/O, so nothing can be away.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

from channels_trunk.envelope import EVERY_NODE, Envelope, Kind
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.layers.base import TrunkChannelLayer
from channels_trunk.names import channel_owner
from channels_trunk.options import CORE_OPTIONS, Option, text
from channels_trunk.transports.base import Capabilities, Claimed, NodeContext, Transport
from channels_trunk.transports.frames import claimed_message, envelopes_for_node


class Board:
    """The engine. `lock` guards all of it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.nodes: dict[str, BulletinTransport] = {}
        self.queues: dict[str, deque[tuple[float, bytes]]] = defaultdict(deque)
        self.members: dict[str, dict[str, float]] = defaultdict(dict)


_boards: dict[tuple[str, str], Board] = defaultdict(Board)


class BulletinTransport(Transport):
    """One node at a board."""

    capabilities = Capabilities(crosses_processes=False)

    def __init__(self, room: str, prefix: str) -> None:
        self._name = (room, prefix)
        self._board = _boards[self._name]
        self._context: NodeContext | None = None
        self._watched: frozenset[str] = frozenset()
        self._held: list[bytes] | None = None  # frames that came while the connection was lost

    @property
    def context(self) -> NodeContext:
        """The node that is served."""
        if self._context is None:
            raise TransportUnavailable("the board is not open")
        return self._context

    async def open(self, context: NodeContext) -> None:
        """Take a place at the board."""
        self._context = context
        with self._board.lock:
            self._board.nodes[context.node] = self
            held, self._held = self._held or [], None
            for frame in held:
                self.deliver(frame)

    async def publish(self, batch: Sequence[Envelope]) -> Sequence[int]:
        """Put queued messages up, and hand a frame to each node that the others concern."""
        refused: list[int] = []
        with self._board.lock:
            for index, envelope in enumerate(batch):
                if envelope.kind == Kind.QUEUE and not self._enqueue(envelope.target, envelope):
                    refused.append(index)
                elif envelope.kind == Kind.GROUP:
                    self._enqueue_for_members(envelope)
            for node, transport in self._board.nodes.items():
                theirs = [envelope for envelope in batch if node != self.context.node and _is_for(envelope, node)]
                if theirs:
                    transport.deliver(self.context.codec.encode_frame(self.context.node, theirs))
        return refused

    def _enqueue_for_members(self, envelope: Envelope) -> None:
        now = self.context.clock.wall()
        for channel, ends in self._board.members[envelope.target].items():
            if ends > now and not self._enqueue(channel, envelope):
                self.context.sink.dropped(channel)

    def _enqueue(self, channel: str, envelope: Envelope) -> bool:
        queue = self._board.queues[channel]
        now = self.context.clock.wall()
        while queue and queue[0][0] <= now:
            queue.popleft()
        if len(queue) >= self.context.capacity_of(channel):
            return False
        own = Envelope(Kind.QUEUE, channel, envelope.expires_at, envelope.body)
        queue.append((envelope.expires_at, self.context.codec.encode_frame(self.context.node, [own])))
        self._tell_watchers(channel)
        return True

    def _tell_watchers(self, channel: str) -> None:
        for transport in self._board.nodes.values():
            if channel in transport._watched:
                transport.context.sink.available([channel])

    def deliver(self, frame: bytes) -> None:
        """Take a frame that another node has published."""
        if self._held is not None:
            self._held.append(frame)
            return
        self.context.sink.received(envelopes_for_node(self.context, frame))

    async def claim(self, channel: str, limit: int) -> Sequence[Claimed]:
        """Take messages down."""
        claimed: list[Claimed] = []
        with self._board.lock:
            queue = self._board.queues[channel]
            while queue and len(claimed) < limit:
                expires_at, frame = queue.popleft()
                message = claimed_message(self.context, channel, expires_at, frame)
                if message is not None and message.expires_at > self.context.clock.wall():
                    claimed.append(message)
        return claimed

    async def restore(self, claimed: Sequence[Claimed]) -> None:
        """Put them up again, in front."""
        with self._board.lock:
            for message in reversed(claimed):
                own = Envelope(Kind.QUEUE, message.channel, message.expires_at, message.body)
                frame = self.context.codec.encode_frame(self.context.node, [own])
                self._board.queues[message.channel].appendleft((message.expires_at, frame))
            for channel in {message.channel for message in claimed}:
                self._tell_watchers(channel)

    async def watch(self, channels: frozenset[str]) -> None:
        """Be told of these, and of what they hold already."""
        with self._board.lock:
            self._watched = channels
            self.context.sink.available([channel for channel in channels if self._board.queues.get(channel)])

    async def bind(self, group: str, channel: str, expires_at: float) -> None:
        """Note the membership."""
        with self._board.lock:
            self._board.members[group][channel] = expires_at

    async def unbind(self, group: str, channel: str) -> None:
        """Strike it out."""
        with self._board.lock:
            self._board.members[group].pop(channel, None)

    async def peers(self) -> frozenset[str]:
        """Who else is at the board."""
        with self._board.lock:
            return frozenset(self._board.nodes) - {self.context.node}

    async def purge(self) -> None:
        """Wipe it."""
        with self._board.lock:
            self._board.queues.clear()
            self._board.members.clear()

    async def maintain(self) -> float:
        """There is nothing to do."""
        return 60.0

    async def close(self, *, leave: bool) -> None:
        """Leave the board, or keep the place there until open() comes again."""
        with self._board.lock:
            self._watched = frozenset()
            self._held = None if leave else self._held or []
            if leave and self._context is not None:
                self._board.nodes.pop(self._context.node, None)

    def abandon(self) -> None:
        """The child of a fork has a board of its own."""
        _boards.pop(self._name, None)


def _is_for(envelope: Envelope, node: str) -> bool:
    if envelope.kind == Kind.CONTROL:
        return envelope.target in (node, EVERY_NODE)
    return envelope.kind == Kind.GROUP or (envelope.kind == Kind.MAILBOX and channel_owner(envelope.target) == node)


class BulletinChannelLayer(TrunkChannelLayer):
    """Layers with the same `room` and `prefix` share a board."""

    options = (*CORE_OPTIONS, Option("room", "lobby", text))

    def _make_transport(self, values: dict[str, Any]) -> Transport:
        """A place at the board of this room."""
        return BulletinTransport(values["room"], values["prefix"])
