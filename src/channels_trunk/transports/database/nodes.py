"""The nodes of one prefix, and what this one remembers of the others and of normal channels in groups."""

from typing import Any

from channels_trunk.transports.base import NodeContext

from .log import Head, Log
from .names import plain_name, stored_name
from .queues import Queues
from .session import Session
from .statements import update
from .values import as_number

__all__ = ["FORGOTTEN_AFTER", "Nodes"]

# A node that has not been heard of for so long is forgotten. Seconds.
FORGOTTEN_AFTER = 30.0
# Who asks less often was held up itself, as by a lock that others had to wait for, too: this counts at most. Seconds.
_ONE_LOOK = 10.0
# And who does not answer to the roll within this time is gone, as far as a caller is concerned who waits for it.
_ANSWERS_WITHIN = 2.0


class Nodes:
    """The statements, and a cache that is right as long as the generation is the same."""

    def __init__(self, session: Session, log: Log, queues: Queues, context: NodeContext) -> None:
        self._session = session
        self._log = log
        self._queues = queues
        self._node = context.node
        self._prefix = stored_name(context.prefix)
        self._noted: dict[str, tuple[float, float]] = {}  # nodes, their last heartbeat, and since when it is that
        self._asked_at = context.clock.monotonic()
        self._roll_call: dict[str, float] = {}  # nodes, and their last heartbeat before the roll was called
        self._roll_called_at = float("-inf")
        self._mute: set[str] = set()  # nodes that have not answered
        self._clock = context.clock
        self.generation = -1
        self.doubts_until = float("-inf")
        """Others may not know yet that the tables were emptied; they come until then, and read what was sent since."""
        self.others: frozenset[str] = frozenset()
        self.members: dict[str, dict[str, float | None]] = {}  # group to normal channels, each with its end

    def refresh(self, head: Head) -> None:
        """Read again what has changed since."""
        if head.generation == self.generation:
            return
        self.others = frozenset(map(plain_name, self._others().values_list("node", flat=True)))
        members: dict[str, dict[str, float | None]] = {}
        for group, channel, ends in self._queues.members():
            members.setdefault(plain_name(group), {})[plain_name(channel)] = as_number(ends, None)
        self.members = members
        self.generation = head.generation

    @property
    def has_others(self) -> bool:
        """Whether there is anybody to read the log."""
        return bool(self.others) or self._clock.monotonic() < self.doubts_until

    def members_of(self, group: str, now: float) -> list[str]:
        """The normal channels in a group."""
        return [channel for channel, ends in self.members.get(group, {}).items() if ends is None or ends > now]

    def peers(self, now: float) -> frozenset[str]:
        """Those that have not been forgotten, and have answered when the roll was last called, if it was; calls it.

        By `now`, this process's own monotonic clock.
        """
        seen = dict(self._others().values_list("node", "seen_at"))
        unchanged = {node for node, seen_at in seen.items() if self._roll_call.get(node) == seen_at}
        if now - self._roll_called_at < _ANSWERS_WITHIN:
            self._mute &= unchanged
        else:
            self._mute = unchanged
            self._roll_call, self._roll_called_at = seen, now
            if seen:
                with self._session.transaction():
                    self._log.lock(roll=True)
        return frozenset(map(plain_name, seen.keys() - self._mute))

    # --- this node's row; in a transaction that holds the lock

    def register(self, position: int, now: float) -> bool:
        """Take part from here on; whether this node was still known."""
        changes = {"prefix": self._prefix, "position": position, "seen_at": now}
        if self._own().update(**changes):
            return True
        self._own().create(node=self._node, **changes)
        return False

    def leave(self) -> bool:
        """Take part no more; whether this was the last node of the prefix."""
        self._log.lock(generation=True)
        self._own().delete()
        return not self._others().exists()

    # --- this node's row

    def heartbeat(self, position: int, now: float) -> bool:
        """Say that this node lives, and how far it has read; whether it was still known."""
        return bool(self._own().update(position=position, seen_at=now))

    def sign(self, receipt: str) -> None:
        """In a transaction: leave a mark by which its commit can be told."""
        self._session.statements.changed(self._signed, receipt=receipt)

    def _signed(self, *, receipt: str) -> Any:
        return update(self._own(), receipt=receipt)

    def receipt(self) -> str | None:
        """The mark of the latest transaction that was committed; None if the node was forgotten."""
        for (receipt,) in self._own().values_list("receipt"):
            return str(receipt)
        return None

    # --- the others

    def silent(self, now: float) -> list[str]:
        """Those whose heartbeat has not changed for a while by `now`, this process's own monotonic clock.

        The wall clocks of two machines may differ.
        """
        rows = self._others().values_list("node", "seen_at")
        held_up = max(0.0, now - self._asked_at - _ONE_LOOK)
        self._asked_at = now
        self._noted = {
            node: (seen_at, self._noted[node][1] + held_up if self._noted.get(node, (None,))[0] == seen_at else now)
            for node, seen_at in rows
        }
        return [node for node, (_, noted_at) in self._noted.items() if now - noted_at > FORGOTTEN_AFTER]

    @property
    def heartbeats(self) -> dict[str, float]:
        """The others, each with its last heartbeat, as silent() has found them."""
        return {plain_name(node): seen_at for node, (seen_at, _) in self._noted.items()}

    def forget(self, nodes: list[str]) -> None:
        """In a transaction."""
        self._log.lock(generation=True)
        self._others().filter(node__in=nodes).delete()

    def is_eldest(self) -> bool:
        """Whether it is this node that tidies up first: the first of those that are not forgotten."""
        return not self._others().filter(node__lt=self._node).exists()

    def read_by_all(self) -> int | None:
        """How far the slowest node has read, as far as is known."""
        positions = list(self._session.model("Node").filter(prefix=self._prefix).values_list("position", flat=True))
        return min((as_number(position, 0) for position in positions), default=None)

    def _own(self) -> Any:
        return self._session.model("Node").filter(node=self._node)

    def _others(self) -> Any:
        return self._session.model("Node").filter(prefix=self._prefix).exclude(node=self._node)
