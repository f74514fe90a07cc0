"""What a node LISTENs to, and whether that holds."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from channels_trunk.aside import logger

from .line import Line
from .listener import Listener
from .names import HINT_CLASS, Bells, is_for_queues
from .settings import PostgresSettings
from .wire import Statement, Wire

__all__ = ["Hearing", "listen", "listen_holds"]

# How long a notification of our own may take to come back, before LISTEN is taken not to hold here. Seconds.
_HEARS_WITHIN = 2.0
_LOCK = f"SELECT pg_advisory_lock_shared({HINT_CLASS}, hashtext('%s'))"
_UNLOCK = f"SELECT pg_advisory_unlock_shared({HINT_CLASS}, hashtext('%s'))"
_NOTIFY = Statement("SELECT pg_notify($1, 'mark 0')")


class Hearing:
    """The notification channels of one node, which outlive its connections."""

    def __init__(self) -> None:
        self.watched: frozenset[str] = frozenset()
        """Normal channels that somebody here waits at."""
        self._heard: frozenset[str] = frozenset()  # shards of groups; hears() reads it in any thread
        # What each session to come listens to. It grows before a session is asked and shrinks when it has answered, so
        # that one which is made in between hears too much rather than too little. Of groups, and of normal channels.
        self._groups: frozenset[str] = frozenset()
        self._hints: frozenset[str] = frozenset()
        self._said_polling = False

    @property
    def channels(self) -> frozenset[str]:
        """What a new session has to listen to, beside the node's own channel and everybody's."""
        return self._groups | self._hints

    async def hear_groups(self, groups: frozenset[str], bells: Bells, line: Line) -> None:
        """LISTEN for the shards of these groups, and for no others."""
        wanted = bells.of_groups(groups)
        self._groups |= wanted
        await line.over(lambda wire: listen(wire, wanted, stop=self._groups - wanted))
        self._groups = self._heard = wanted

    async def hear_more(self, groups: frozenset[str], bells: Bells, line: Line) -> None:
        """LISTEN for the shards of these groups as well."""
        wanted = bells.of_groups(groups)
        self._groups |= wanted
        await line.over(lambda wire: listen(wire, wanted))
        self._heard |= wanted

    def narrow(self, groups: frozenset[str], bells: Bells) -> None:
        """Shards of these groups alone count as heard; what else is listened to goes with the next hear_groups()."""
        self._heard &= bells.of_groups(groups)

    def hears(self, group: str, bells: Bells) -> bool:
        """Whether the group's shard is listened to; any thread."""
        return bells.group(group) in self._heard

    async def watch(self, channels: frozenset[str], bells: Bells, line: Line) -> None:
        """LISTEN for the shards of these normal channels."""
        wanted = frozenset(map(bells.queue, channels))
        self.watched = channels
        self._hints |= wanted
        await line.over(lambda wire: listen(wire, wanted, stop=self._hints - wanted))
        self._hints = wanted

    def forget(self) -> None:
        """The node leaves."""
        self._heard = self._groups = self._hints = self.watched = frozenset()

    def say_that_it_polls(self, settings: PostgresSettings) -> None:
        """Say it once."""
        if not self._said_polling:
            self._said_polling = True
            logger.warning(
                "%s: LISTEN does not hold here, as behind a pooler of transactions. The layer polls every %g s; a "
                "'listen_dsn' that leads to the server itself is faster",
                settings.where,
                settings.polling_interval,
            )


async def listen(wire: Wire, channels: Iterable[str], *, stop: Iterable[str] = ()) -> None:
    """LISTEN to these channels, and no more to others, as far as the session does not do so already."""
    if wire.pooled:
        return  # it would be somebody else's session that listens
    begin, end = sorted(set(channels) - wire.listens), sorted(wire.listens.intersection(stop))
    statements = [f'LISTEN "{channel}"' for channel in begin] + [f'UNLISTEN "{channel}"' for channel in end]
    # Whoever publishes sends hints where somebody holds this; see Hints.
    statements += [_LOCK % channel for channel in begin if is_for_queues(channel)]
    statements += [_UNLOCK % channel for channel in end if is_for_queues(channel)]
    if statements:
        await wire.script("; ".join(statements))
        wire.listens.update(begin)
        wire.listens.difference_update(end)


async def listen_holds(listener: Listener, writing: Wire, bell: str) -> bool:
    """Whether a notification of this node's own comes back to it."""
    listener.marked.clear()
    await writing.run(_NOTIFY, bell)
    with suppress(TimeoutError):
        await asyncio.wait_for(listener.marked.wait(), _HEARS_WITHIN)
    return listener.marked.is_set()
