"""The nodes on which programmes run, and the engine beneath them."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from channels_trunk.testing.peers import Peer
from channels_trunk.testing.processes import ProcessPeer
from channels_trunk.testing.rig import Rig

__all__ = ["GAP_EVENT", "SMALL", "Engine", "Stage"]

SMALL = 3
"""The capacity of the channels that hold few messages."""
GAP_EVENT = "gap"
_SEND_TIMEOUT = 30
CAPACITY = {"small*": SMALL, "*.small*": SMALL}


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What a programme may do to the engine beneath the layer; what is left out is in no programme."""

    cut: Callable[[], object] | None = None
    """Cut every connection to it; new ones are taken at once."""
    ways_to_lose: dict[str, Callable[[], object]] = field(default_factory=dict)
    """Have it lose everything that it holds for the layer."""


class Stage:
    """The nodes, which serve one programme after the other."""

    def __init__(self, rig: Rig, engine: Engine, *, nodes: int = 3) -> None:
        self.rig = rig
        self.engine = engine
        self.nodes: list[Peer] = []
        self.within = 40.0
        """How many seconds to wait for a message that has to come."""
        self.gaps: list[int] = []
        """How many gaps each node was right to count."""
        self.expiry: float | None = None
        self._config: dict[str, Any] = {}
        self._count = nodes
        self.runs = itertools.count(1)

    async def open(self, *, expiry: float | None = None) -> None:
        """Start the nodes."""
        self._config = {"channel_capacity": CAPACITY} | ({} if expiry is None else {"expiry": expiry})
        if self.rig.features.statistics:
            # On a slow machine a call takes its time: only what never comes is a difference.
            self._config |= {"gap_event": GAP_EVENT, "send_timeout": _SEND_TIMEOUT}
        self.expiry = expiry
        self.nodes = await self.rig.peers(self._count, **self._config)
        self.gaps = [0] * self._count

    async def replace(self, node: int, *, kill: bool = False) -> None:
        """End a node, in good order or not, and put another in its place."""
        peer = self.nodes[node]
        if kill:
            assert isinstance(peer, ProcessPeer)
            peer.kill()
            await peer.gone()
        else:
            await peer.stop()
        self.nodes[node] = await self.rig.peer(**self._config)
        self.gaps[node] = 0

    async def count_gaps(self) -> list[int]:
        """Return how many gaps each node has counted."""
        if not self.rig.features.statistics:
            return self.gaps
        return [(await node.call("stats"))["gaps_total"] for node in self.nodes]

    async def renew_all(self) -> None:
        """Replace every node, as nobody knows what a programme that failed has left behind."""
        await self.close()
        await self.open(expiry=self.expiry)

    async def close(self) -> None:
        """End every node."""
        old, self.nodes = self.nodes, []
        await asyncio.gather(*(peer.stop() for peer in old), return_exceptions=True)
