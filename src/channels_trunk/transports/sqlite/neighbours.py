"""What this node remembers of the shared tables that change rarely: the other nodes, and normal channels in groups.

It is right as long as the generation in trunk_meta is the same: each change of these tables makes a new one, at random,
so that a file which was restored cannot come to one that stood for something else. A sender learns the generation in
the very statement that appends its row, so it never rings yesterday's nodes: a node that registers later begins to read
behind that row.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from channels_trunk.envelope import EVERY_NODE, Envelope, Kind
from channels_trunk.names import channel_owner, is_node_id

__all__ = ["CHANGE", "GENERATION", "NEW_GENERATION", "Neighbour", "Neighbours"]

GENERATION = "(SELECT value FROM trunk_meta WHERE name = 'generation')"
NEW_GENERATION = "(random() & 0x7fffffffffffffff)"
CHANGE = f"UPDATE trunk_meta SET value = {NEW_GENERATION} WHERE name = 'generation'"


class Neighbour(NamedTuple):
    """Another node with our prefix."""

    doorbell: str
    watching: frozenset[str]


class Neighbours:
    """A cache; used by one thread at a time."""

    def __init__(self, node: str, prefix: str, locate: Callable[[str, str], str]) -> None:
        self._node = node
        self._prefix = prefix
        self._locate = locate
        self.generation = -1
        self.nodes: dict[str, Neighbour] = {}
        self.only: str | None = None
        """The one other node, if there is one alone; it may be gone already."""
        self.members: dict[str, dict[str, float]] = {}  # group to normal channels, each with the membership's end
        self.unreachable: dict[str, int] = {}
        """Nodes that cannot be rung from here, and the errno that said so; any thread."""

    def refresh(self, connection: sqlite3.Connection, generation: int | None = None) -> None:
        """Read the tables again if they have changed since."""
        if generation is None:
            generation = connection.execute(f"SELECT {GENERATION}").fetchone()[0]
        # None: somebody deleted the row. Slow, and right.
        if generation is not None and generation == self.generation:
            return
        rows = connection.execute(
            "SELECT node, doorbell, watching FROM trunk_nodes WHERE prefix = ? AND node <> ?",
            (self._prefix, self._node),
        )
        self.nodes = {
            node: Neighbour(self._locate(node, told), unpack_names(watching))
            for node, told, watching in rows
            if is_node_id(node)
        }
        self.only = next(iter(self.nodes)) if len(self.nodes) == 1 else None
        # Who could not be rung may have come back, and with it its socket.
        self.unreachable = {}
        self.members = {}
        for group, channel, ends in connection.execute(
            "SELECT group_name, channel, CAST(expires_at AS REAL) FROM trunk_members WHERE prefix = ?", (self._prefix,)
        ):
            self.members.setdefault(group, {})[channel] = ends
        self.generation = generation

    def concerned(self, envelopes: Iterable[Envelope]) -> Iterable[str]:
        """The nodes that have to look at the log because of these."""
        nodes: set[str] = set()
        latest = ""
        for envelope in envelopes:
            if envelope.target == latest:
                continue
            latest = envelope.target
            if envelope.kind == Kind.GROUP or envelope.target == EVERY_NODE:
                return self.nodes
            nodes.add(envelope.target if envelope.kind == Kind.CONTROL else channel_owner(envelope.target) or "")
        return nodes

    def addressee(self, batch: Sequence[Envelope]) -> str | None:
        """The one node that these concern, if there is one alone, and they are messages.

        Not what nodes say to each other: a flush, say, has to come behind everything that is in the log.
        """
        node: str | None = None
        latest = ""
        for envelope in batch:
            if envelope.kind == Kind.CONTROL:
                return None
            if envelope.target == latest:
                continue
            latest = envelope.target
            owner = self.only if envelope.kind == Kind.GROUP else channel_owner(latest)
            if owner is None or (node is not None and owner != node):
                return None
            node = owner
        return node

    def watchers(self, channels: Sequence[str]) -> Iterable[str]:
        """The nodes that wait for messages on any of these normal channels."""
        wanted = set(channels)
        return [node for node, neighbour in self.nodes.items() if not wanted.isdisjoint(neighbour.watching)]


def pack_names(names: Iterable[str]) -> bytes:
    """Names as a column value."""
    return json.dumps(sorted(names)).encode()


def unpack_names(packed: bytes) -> frozenset[str]:
    """Names from a column value; a damaged one counts as none."""
    try:
        return frozenset(map(str, json.loads(packed)))
    except (ValueError, TypeError, RecursionError):
        return frozenset()
