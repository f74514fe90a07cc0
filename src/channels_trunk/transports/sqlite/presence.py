"""This node among the others that share the file: its heartbeat, who is gone, and why messages may come late."""

import os
from collections.abc import Iterable, Mapping

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.transports.base import NodeContext

from .bells import Bells
from .clocks import Clocks
from .doorbell import Doorbell
from .log_reader import LogReader
from .upkeep import HEARTBEAT, Upkeep

__all__ = ["Presence"]

# Who cannot be rung by another is told so as often as that one looks.
_TOLD_FOR = 3 * HEARTBEAT


class Presence:
    """Used by the hub's thread alone; `must_poll` is read by any."""

    def __init__(
        self,
        context: NodeContext,
        *,
        upkeep: Upkeep,
        reader: LogReader,
        doorbell: Doorbell,
        bells: Bells,
        clocks: Clocks,
    ) -> None:
        self._context = context
        self._upkeep = upkeep
        self._reader = reader
        self._doorbell = doorbell
        self._bells = bells
        self._clocks = clocks
        self._next_look = 0.0
        self._told_until = 0.0
        self.must_poll = ""
        """Why another node cannot ring here, or nothing."""

    def greet(self, watching: Iterable[str]) -> None:
        """Say that this node lives, and look after the others. Raises TransportUnavailable if it has to come anew."""
        now, monotonic = self._context.clock.wall(), self._context.clock.monotonic()
        is_known, told_to_poll = self._upkeep.heartbeat(watching, self._reader.position, now)
        if not is_known:
            self._upkeep.register(self._doorbell.address, watching, self._reader.position, now)
            # Whoever believes to be alone writes nothing.
            self._context.sink.gap("others took this process for dead, or the SQLite file was emptied or restored")
        if not is_known or self._reader.was_replaced or self._reader.lost_at is not None:
            self._reader.was_replaced = False
            self._upkeep.forget_the_restored()
        # Not before: opened again, the transport finds a row that is there.
        self._check_socket()
        if (lost_at := self._reader.lost_at) is not None:
            self._upkeep.leap(lost_at, now)
            self._reader.lost_at = None
        if told_to_poll:
            self.must_poll, self._told_until = os.strerror(told_to_poll), monotonic + _TOLD_FOR
        elif monotonic > self._told_until:
            self.must_poll = ""
        # Not as often as there is much traffic.
        if monotonic >= self._next_look or self._bells.found_nobody:
            self._next_look = monotonic + HEARTBEAT
            self._look_after_others(monotonic)

    def _check_socket(self) -> None:
        """Opened again, the transport makes another socket, and the watchers of this one are told."""
        doorbell = self._doorbell
        if not doorbell.is_whole:
            raise TransportUnavailable(f"the socket {doorbell.address} was removed, or has to be elsewhere")
        if doorbell.why_none:
            doorbell.open()
            if not doorbell.why_none:
                raise TransportUnavailable("a socket can be made by now")

    def _look_after_others(self, monotonic: float) -> None:
        self._bells.found_nobody = False
        self._upkeep.forget_the_dead()
        self._upkeep.forget_the_silent(monotonic)
        self._clocks.compare(self._upkeep.clocks_of_others())
        unreachable = self._bells.try_again()
        if unreachable:
            self._upkeep.must_poll(unreachable)
        self._context.sink.hampered("; ".join(filter(None, self._troubles(unreachable))))

    def _troubles(self, unreachable: Mapping[str, int]) -> Iterable[str]:
        if self._doorbell.why_none:
            yield f"this process polls for messages: {self._doorbell.why_none}"
        elif self.must_poll:
            yield f"this process polls for messages, as another one cannot reach its socket ({self.must_poll})"
        if unreachable:
            why = os.strerror(next(iter(unreachable.values())))
            yield (
                f"the sockets of {len(unreachable)} other processes cannot be reached from this one ({why}): they poll "
                f"for what it sends"
            )
        yield self._clocks.difference
        yield self._upkeep.other_names
        yield self._upkeep.why_wal_grows
