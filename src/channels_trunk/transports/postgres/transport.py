"""The PostgreSQL transport: what the hub asks of it, and who does it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from channels_trunk.envelope import Envelope
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.transports.base import (
    LAST_PAGE,
    Busy,
    Capabilities,
    Claimed,
    NodeContext,
    Page,
    ReadableTransport,
    StartingTransport,
)

from .errors import is_lost, refusal, translated
from .part import Kept, Part
from .reading import Reading
from .settings import PostgresSettings
from .wire import ServerError
from .writer import Writer

__all__ = ["PostgresTransport"]

T = TypeVar("T")


class PostgresTransport(ReadableTransport, StartingTransport):
    """Runs on the hub's loop, but for what callers' threads start, and what receivers' loops read.

    At most three connections, whatever the number of loops, threads and channels.
    """

    capabilities = Capabilities(
        crosses_processes=True, needs_interest=True, claims_ahead=True, starts=True, knows_after=True
    )

    def __init__(self, find_settings: Callable[[], PostgresSettings]) -> None:
        # Asked for each connection: in a test run Django changes the name of the database after the layer is made, and
        # a password may hold for minutes.
        self._find_settings = find_settings
        self._part: Part | None = None
        self._kept = Kept()
        self._reading = Reading()

    # --- life

    async def open(self, context: NodeContext) -> None:
        """Connect, make what is missing, find out what was missed meanwhile."""
        self._context = context
        settings = self._find_settings()
        self._where = settings.where
        part = Part(settings, context, self._kept, self._reading, find_settings=self._find_settings)
        try:
            await part.find_tables()
            self._part = part
            await part.take_part()
        except ServerError as error:
            raise refusal(error, self._where) from error
        except OSError as error:
            # No descriptor is left: others will be closed again.
            raise TransportUnavailable(f"{self._where}: {error}") from error

    async def close(self, *, leave: bool) -> None:
        """Close the connections; with `leave`, sign off."""
        part, self._part = self._part, None
        if part is not None:
            await part.close(leave=leave)

    def abandon(self) -> None:
        """In a forked child: close the descriptors."""
        part, self._part = self._part, None
        if part is not None:
            part.close_in_child()

    # --- LISTEN

    async def interest(self, groups: frozenset[str]) -> None:
        """LISTEN for the shards of these groups, and for no others."""
        part = self._there()
        await self._translated(self._kept.hearing.hear_groups(groups, part.bells, part.listening))

    async def hear(self, groups: frozenset[str]) -> None:
        """LISTEN for the shards of these groups as well."""
        part = self._there()
        await self._translated(self._kept.hearing.hear_more(groups, part.bells, part.listening))

    def narrow(self, groups: frozenset[str]) -> None:
        """Shards of these groups alone count as heard."""
        if (part := self._part) is not None:
            self._kept.hearing.narrow(groups, part.bells)

    def hears(self, group: str) -> bool:
        """Whether the group's shard is listened to."""
        part = self._part  # once: the hub's thread may close it meanwhile
        return part is not None and self._kept.hearing.hears(group, part.bells)

    async def watch(self, channels: frozenset[str]) -> None:
        """LISTEN for the shards of these normal channels."""
        part = self._there()
        part.listener.watched = channels
        await self._translated(self._kept.hearing.watch(channels, part.bells, part.listening))

    # --- in

    def read_now(self) -> Page:
        """Read what the connections brought, and hand over what is whole."""
        part = self._part
        return LAST_PAGE if part is None else Page(part.read(), more=False)

    def queues_now(self) -> Sequence[str]:
        """The channels that hints came for."""
        part = self._part
        return () if part is None else part.hinted()

    def changed(self) -> bool:
        """Whether something came that nobody has read."""
        return self._reading.changed()

    def doorbell(self) -> int | None:
        """Readable when something has come."""
        return self._reading.doorbell()

    def leave_doorbell(self) -> None:
        """Read in the hub's loop again."""
        self._reading.leave()

    def answer_doorbell(self) -> None:
        """Note who reads; reading does the rest."""
        self._reading.answer()

    # --- out

    async def publish(self, batch: Sequence[Envelope]) -> Sequence[int]:
        """Append the batch, in one statement."""
        return await self._translated(self._writer().publish(batch))

    def start(self, batch: Sequence[Envelope], done: Callable[[Sequence[int] | None], None]) -> bool:
        """Send the statement, if the session stands and runs none."""
        part = self._part
        return part is not None and part.writer.start(batch, done)

    async def finish(self) -> Sequence[int]:
        """Do what takes more than one statement."""
        return await self._translated(self._writer().finish())

    def attend(self, seconds: float) -> None:
        """Wait for the server's answer."""
        part = self._part
        wire = None if part is None else part.writing.current()
        if wire is not None:
            wire.attend(seconds)

    # --- normal channels, and the others

    async def claim(self, channel: str, limit: int) -> Sequence[Claimed]:
        """Delete the oldest rows of a channel, and return them."""
        return await self._translated(self._there().queues.claim(channel, limit))

    async def restore(self, claimed: Sequence[Claimed]) -> None:
        """Insert rows again, with ids below all others."""
        await self._translated(self._there().queues.restore(claimed))

    async def bind(self, group: str, channel: str, expires_at: float) -> None:
        """Write the membership."""
        await self._translated(self._there().queues.bind(group, channel, expires_at))

    async def unbind(self, group: str, channel: str) -> None:
        """Remove the membership."""
        await self._translated(self._there().queues.unbind(group, channel))

    async def peers(self) -> frozenset[str]:
        """Nodes whose sessions hold their locks."""
        return await self._translated(self._there().upkeep.peers())

    async def purge(self) -> None:
        """Delete queues and memberships; what is in the log ends at the flush that the hub sends behind it."""
        await self._translated(self._there().queues.purge())

    async def drop(self) -> None:
        """Forget what was to go back."""
        await self._translated(self._there().queues.drop())

    # --- maintenance

    async def trim(self) -> None:
        """Remove what has expired."""
        await self._translated(self._there().tidy())

    async def maintain(self) -> float:
        """Heartbeat, and whatever is due."""
        return await self._translated(self._there().maintain())

    # --- errors

    def _writer(self) -> Writer:
        if self._part is None:
            raise Busy  # what was sent before is not forgotten
        return self._part.writer

    def _there(self) -> Part:
        if self._part is None:
            raise TransportUnavailable("the database is not reached")
        return self._part

    async def _translated(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except ServerError as error:
            failure = translated(error, self._where)
            if is_lost(error) and not isinstance(failure, Busy):
                self._context.sink.lost(failure)
            raise failure from error
