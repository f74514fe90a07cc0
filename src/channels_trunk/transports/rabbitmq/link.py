"""What there is while the broker is connected: one connection and its channels."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from channels_trunk.exceptions import TransportError, TransportUnavailable
from channels_trunk.transports.base import NodeContext

from .address import Address
from .channel import Channel
from .connection import Connection
from .errors import NOT_FOUND, PRECONDITION_FAILED, AmqpError, translated
from .settings import RabbitMQSettings
from .topology import QueueSpec

__all__ = ["Limit", "Link", "connected"]

_PUBLISHER, _INBOX, _DESK, _LANE, _BINDER = 1, 2, 3, 4, 5
_SCRATCHES = range(6, 22)
# So large is a message that a broker is believed to take before it has taken any. Bytes.
_SURELY_TAKEN = 131_072
_SMALL = 4_096


@dataclass(slots=True)
class Limit:
    """What is known of the largest message that the broker takes, in bytes."""

    taken: int = _SURELY_TAKEN
    """One of so many was taken."""
    refused: float = math.inf
    """One of so many was not."""
    reason: str = ""
    """What the broker said then."""

    def refuse(self, size: int, reason: str) -> None:
        """It did not take one of so many."""
        self.refused, self.reason = size, reason
        # Should it have taken one that was as large, somebody has set it to less since.
        self.taken = min(self.taken, size - 1)

    def remedy(self, where: object) -> str:
        """What to tell whoever sends one that is too large."""
        return (
            f"RabbitMQ at {where} takes none so large. Send less, or raise max_message_size in its rabbitmq.conf "
            f"({self.reason})"
        )

    @property
    def together(self) -> int:
        """How much may be put into one message: encrypted, and with what stands beside, it is less than `taken`."""
        return self.taken // 2 if self.taken >= _SMALL else 0


@dataclass(slots=True)
class Link:
    """A connection. What may fail for one queue alone is done on a channel of its own: an error closes the channel."""

    connection: Connection
    context: NodeContext
    settings: RabbitMQSettings
    publisher: Channel
    inbox: Channel
    desk: Channel
    binders: Sequence[Channel]
    """The desk and another: a broker with two processors binds a fifth more groups over two channels."""
    is_open: bool = False
    """Whether the node has taken its place over it."""
    gap: str = ""
    """Why messages may have been lost before it took its place, until that is said: when its groups are bound."""
    bound: set[str] = field(default_factory=set)
    """Groups that were bound over this connection."""
    limit: Limit = field(default_factory=Limit)
    asked: dict[str, Any] = field(default_factory=dict)
    """Groups whose binding the broker was asked for, without an answer so far; see hearing.py."""
    giving_back: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while what was claimed is given back once more."""
    dropping: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by a flush: two nodes may flush at once."""
    _scratch: "asyncio.LifoQueue[int]" = field(default_factory=lambda: _filled(_SCRATCHES))
    """Numbers of channels that are free."""

    @property
    def address(self) -> Address:
        """Where it leads."""
        return self.connection.address

    @asynccontextmanager
    async def scratch(self, *, confirms: bool = False) -> AsyncIterator[Channel]:
        """A channel for what may be refused."""
        number = await self._scratch.get()
        opening = asyncio.ensure_future(self.connection.channel(number, confirms=confirms))
        is_given_up = False
        try:
            yield await asyncio.shield(opening)
        except asyncio.CancelledError:
            is_given_up = True  # and not to be held up by a broker that does not answer
            raise
        finally:
            ending = asyncio.ensure_future(self._end_scratch(number, opening))
            if not is_given_up:
                await asyncio.shield(ending)

    async def _end_scratch(self, number: int, opening: "asyncio.Future[Channel]") -> None:
        # To open a channel whose number is not free would end the connection.
        try:
            await (await opening).close()
        except AmqpError:
            pass  # the connection has ended
        finally:
            self._scratch.put_nowait(number)

    async def lane(self) -> Channel:
        """A channel for normal channels; it is opened again if it was closed."""
        return await self.connection.channel(_LANE)

    async def declare(self, spec: QueueSpec) -> bool:
        """Make a queue, or take it as it is; False if it was made with other arguments."""
        try:
            async with self.scratch() as channel:
                await channel.declare_queue(spec)
        except AmqpError as error:
            if error.code != PRECONDITION_FAILED:
                raise
        else:
            return True
        async with self.scratch() as channel:
            await channel.declare_queue(spec, passive=True)
        return False

    async def has_queue(self, name: str) -> bool:
        """Whether a queue is there, and its broker up."""
        return await self._finds(
            lambda channel: channel.declare_queue(QueueSpec(name=name, arguments={}), passive=True)
        )

    async def has_exchange(self, name: str) -> bool:
        """Whether an exchange is there."""
        return await self._finds(
            lambda channel: channel.declare_exchange(name, "direct", auto_delete=False, passive=True)
        )

    async def _finds(self, look: Callable[[Channel], Awaitable[object]]) -> bool:
        try:
            async with self.scratch() as channel:
                await look(channel)
        except AmqpError as error:
            if error.code != NOT_FOUND:
                raise
            return False
        return True

    async def renew(self, name: str) -> None:
        """Have the time begin anew after which a quorum queue expires.

        No declare does that, other than with a classic queue: only a get, and the end of a consumer. The message that a
        get finds is given back to its place at once.
        """
        async with self.scratch() as channel:
            _, consumers = await channel.declare_queue(QueueSpec(name=name, arguments={}), passive=True)
            if not consumers and (found := await channel.get(name)) is not None:
                channel.give_back(found.tag)


def _filled(numbers: Sequence[int]) -> "asyncio.LifoQueue[int]":
    queue = asyncio.LifoQueue[int]()
    for number in reversed(numbers):
        queue.put_nowait(number)
    return queue


async def connected(
    settings: RabbitMQSettings,
    context: NodeContext,
    *,
    first: int,
    is_first_time: bool,
    lost: Callable[[AmqpError], None],
    blocked: Callable[[str], None],
    came: Callable[[], None] = lambda: None,
) -> Link:
    """Connect to the first broker that takes us, beginning with the address of this number."""
    failures: list[TransportError] = []
    count = len(settings.addresses)
    for number in range(count):
        address = settings.addresses[(first + number) % count]
        connection = Connection(address, lost=lost, blocked=blocked, came=came)
        try:
            await connection.open(settings.ssl_context)
            publisher = await connection.channel(_PUBLISHER, confirms=True, anywhere=True)
            inbox = await connection.channel(_INBOX, anywhere=True)
            desk = await connection.channel(_DESK, anywhere=True)
            binder = await connection.channel(_BINDER, anywhere=True)
        except (AmqpError, OSError) as error:
            connection.abort()
            failures.append(translated(error, address, opening=is_first_time))
        except TransportUnavailable as error:
            failures.append(error)
        except BaseException:
            connection.abort()
            raise
        else:
            return Link(connection, context, settings, publisher, inbox, desk, (desk, binder))
    # One broker that refuses what the settings say is more telling than another that cannot be reached.
    raise min(failures, key=lambda failure: isinstance(failure, TransportUnavailable))
