"""Takes away what nobody needs any more: silent nodes, rows that are read or expired. For the worker's thread."""

from channels_trunk.transports.base import NodeContext

from .log import Log
from .names import plain_name
from .nodes import Nodes
from .queues import Queues
from .session import Session

__all__ = ["Upkeep"]

# The eldest node may be one that is told not to tidy up, or stand still: after so many rounds others do it, too.
_ROUNDS = 6


class Upkeep:
    """In small steps."""

    def __init__(self, session: Session, context: NodeContext, *, log: Log, queues: Queues, nodes: Nodes) -> None:
        self._session = session
        self._clock = context.clock
        self._log = log
        self._queues = queues
        self._nodes = nodes
        self._rounds = 0  # since this node has tidied up

    def forget_the_silent(self) -> None:
        """Forget nodes whose heartbeat stopped."""
        if silent := self._nodes.silent(self._clock.monotonic()):
            with self._session.transaction():
                self._nodes.forget(silent)

    def tidy_in_turn(self) -> bool:
        """As tidy(), if it is this node's turn."""
        self._rounds += 1
        if self._rounds < _ROUNDS and not self._nodes.is_eldest():
            return False
        more = self.tidy()
        if not more:
            self._rounds = 0
        return more

    def tidy(self) -> bool:
        """Remove what nobody needs any more, a bounded number of rows; whether there is more to do."""
        now = self._clock.wall()
        read_by_all = self._nodes.read_by_all()
        more = read_by_all is not None and self._log.trim(read_by_all, now)
        self._log.clear_strangers(now)
        self._queues.clear_strangers(now)
        for channel in map(plain_name, self._queues.expired(now)):
            more = True
            self._queues.drop_expired(channel, now)
        if self._queues.has_ended_members(now):
            with self._session.transaction():
                self._log.lock(generation=True)
                self._queues.drop_ended_members(now)
        return more
