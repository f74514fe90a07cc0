"""What comes to the node's queue: each message once, though a lost connection brings some again."""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Sequence

from channels_trunk.codec import Slot, slot_of_node
from channels_trunk.envelope import EVERY_NODE, Envelope, Kind
from channels_trunk.exceptions import DecodeError, DecryptError
from channels_trunk.transports.base import NodeContext
from channels_trunk.transports.frames import envelopes_for_node

from .acks import Acks
from .channel import Channel, Delivery
from .foreign import read_plain
from .settings import RabbitMQSettings
from .topology import BARRIER_TYPE, EVERY_NODE_KEY, FRAME_TYPE, ROLL_TYPE
from .wire import Malformed, read_table

__all__ = ["Inbox", "envelope_of_plain"]

_EVERY_NODE_KEY = EVERY_NODE_KEY.encode()
_TO_EVERY_NODE: Slot = {Kind.CONTROL: EVERY_NODE}


class Inbox:
    """Outlives connections. One thread at a time reads; the rolls are the hub's loop's."""

    def __init__(self, context: NodeContext, settings: RabbitMQSettings) -> None:
        self._context = context
        self._settings = settings
        self._own = context.node.encode() + b"."
        self._node_key = settings.topology.node_key(context.node).encode()
        self._node_slot = slot_of_node(context.node)
        # The broker sends so many before it needs an acknowledgement: it cannot bring an older one again.
        self._memory = 2 * settings.prefetch_count
        self._lock = threading.Lock()
        self._arrived: list[Envelope] = []  # guarded by _lock: while the watch changes hands, one takes and one reads
        self._acks = Acks(settings.prefetch_count)
        self._recent: OrderedDict[bytes | int, None] = OrderedDict()
        self._rolls: dict[bytes, tuple[set[str], asyncio.Future[frozenset[str]]]] = {}

    def read(self, channel: Channel, deliveries: Sequence[Delivery]) -> None:
        """Keep what has come for take(), and have it acknowledged."""
        with self._lock:
            for delivery in deliveries:
                if delivery.properties.content_type in (ROLL_TYPE, BARRIER_TYPE):
                    channel.in_loop(self._answered, delivery)
                else:
                    self._keep(delivery)
        self._acks.note(channel, deliveries[-1].tag, count=len(deliveries))

    def take(self) -> list[Envelope]:
        """What has come since the last time."""
        with self._lock:
            arrived, self._arrived = self._arrived, []
        return arrived

    def _keep(self, delivery: Delivery) -> None:
        kind, number = delivery.properties.content_type, delivery.properties.message_id
        if kind == FRAME_TYPE and number.startswith(self._own):
            return
        if self._had(number or hash(delivery.body), again=delivery.is_redelivered):
            return
        try:
            if kind == FRAME_TYPE:
                self._arrived += envelopes_for_node(self._context, delivery.body, self._slot(delivery.routing_key))
            else:
                self._arrived.append(envelope_of_plain(delivery.body, self._context, self._settings))
        except DecodeError as error:
            self._context.sink.skipped(error)

    def _slot(self, key: bytes) -> Slot:
        """What may come under a routing key of the groups exchange."""
        if key == self._node_key:
            return self._node_slot
        return _TO_EVERY_NODE if key == _EVERY_NODE_KEY else {Kind.GROUP: key.decode("ascii", "replace")}

    def _had(self, key: bytes | int, *, again: bool) -> bool:
        if again and key in self._recent:
            return True
        self._recent[key] = None
        if len(self._recent) > self._memory:
            self._recent.popitem(last=False)
        return False

    # --- the roll: who is alive

    def begin_roll(self, number: bytes) -> "asyncio.Future[frozenset[str]]":
        """Collect the answers to a roll call; its barrier, which comes last, ends it."""
        future: asyncio.Future[frozenset[str]] = asyncio.get_running_loop().create_future()
        self._rolls[number] = (set(), future)
        return future

    def end_roll(self, number: bytes) -> None:
        """Nobody waits for it any more."""
        self._rolls.pop(number, None)

    def _answered(self, delivery: Delivery) -> None:
        names, future = self._rolls.get(delivery.properties.message_id, (set(), None))
        if future is None or future.done():
            return
        if delivery.properties.content_type == BARRIER_TYPE:
            future.set_result(frozenset(names))
            return
        try:
            lease = read_table(delivery.properties.headers).get("x-first-death-queue")
        except Malformed:
            self._context.sink.skipped(DecodeError("malformed answer to a roll call"))
            return
        if isinstance(lease, str):
            names.add(self._settings.topology.node_of_lease(lease))


def envelope_of_plain(body: bytes, context: NodeContext, settings: RabbitMQSettings) -> Envelope:
    """What another program sent; raises DecodeError."""
    if not settings.accepts_plain:
        raise DecryptError("a message is not encrypted, and this layer has symmetric_encryption_keys")
    return read_plain(body, codec=context.codec, expires_at=context.clock.wall() + settings.expiry)
