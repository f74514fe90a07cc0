"""A look at the broker from outside, by a connection of its own: what waits in normal channels. Blocks."""

import asyncio
from collections.abc import Iterable, Sequence

from channels_trunk.clock import SYSTEM_CLOCK
from channels_trunk.codec import Codec
from channels_trunk.envelope import Envelope
from channels_trunk.stats import Survey
from channels_trunk.transports.base import NodeContext

from .errors import NOT_FOUND, AmqpError, translated
from .ledger import Ledger
from .link import Link, connected
from .settings import RabbitMQSettings
from .topology import QueueSpec

__all__ = ["survey"]


class _Nobody:
    """A sink: whoever looks from outside takes no messages."""

    def received(self, envelopes: Sequence[Envelope]) -> None: ...
    def available(self, channels: Sequence[str]) -> None: ...
    def gap(self, reason: str) -> None: ...
    def lost(self, error: BaseException) -> None: ...
    def skipped(self, error: Exception) -> None: ...
    def dropped(self, channel: str) -> None: ...
    def engine_time(self, now: float) -> None: ...
    def maintain_soon(self) -> None: ...
    def stalled(self, reason: str) -> None: ...
    def hampered(self, reason: str) -> None: ...


def survey(settings: RabbitMQSettings, *, prefix: str, codec: Codec) -> Survey:
    """What the broker holds for a prefix; raises TransportUnavailable. It cannot say how much room that takes."""
    context = NodeContext("survey", prefix, codec, _Nobody(), SYSTEM_CLOCK, lambda _channel: 1)
    return Survey(waiting=asyncio.run(_look(settings, context)), log_rows=None, size_bytes=None)


async def _look(settings: RabbitMQSettings, context: NodeContext) -> dict[str, int]:
    link = await connected(
        settings, context, first=0, is_first_time=True, lost=context.sink.lost, blocked=context.sink.stalled
    )
    try:
        async with asyncio.timeout(settings.send_timeout):
            notes = await Ledger(link).read()
            return await _depths(link, sorted(notes.channels))
    except (AmqpError, OSError) as error:
        raise translated(error, link.address) from error
    finally:
        await link.connection.close()


async def _depths(link: Link, channels: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for channel in channels:
        name = link.settings.topology.channel_queue_name(channel)
        try:
            async with link.scratch() as line:
                messages, _ = await line.declare_queue(QueueSpec(name=name, arguments={}), passive=True)
        except AmqpError as error:
            if error.code != NOT_FOUND:
                raise
            continue  # it has expired
        if messages:
            found[channel] = messages
    return found
