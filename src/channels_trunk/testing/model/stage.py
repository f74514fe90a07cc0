"""The nodes on which programmes run, and the engine beneath them."""

import asyncio
import itertools
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from channels_trunk.testing.peers import Peer
from channels_trunk.testing.processes import ProcessPeer
from channels_trunk.testing.rig import Rig
from channels_trunk.testing.waiting import eventually

__all__ = ["GAP_EVENT", "SMALL", "Engine", "Loss", "Stage"]

SMALL = 3
"""The capacity of the channels that hold few messages."""
GAP_EVENT = "gap"
_SEND_TIMEOUT = 30
CAPACITY = {"small*": SMALL, "*.small*": SMALL}


@dataclass(frozen=True)
class Loss:
    """A way in which an engine loses something, and what that is."""

    make: Callable[[], object]
    """Have it happen."""
    mail: bool = True
    """What is on its way between nodes; each of them may count a gap."""
    told: bool = True
    """Each of them has to, and soon."""
    jobs: bool = True
    """The messages of normal channels."""
    members: bool = True
    """The memberships of normal channels."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What a programme may do to the engine beneath the layer; what is left out is in no programme."""

    cut: Callable[[], object] | None = None
    """Cut every connection to it; new ones are taken at once."""
    ways_to_lose: dict[str, Loss] = field(default_factory=dict)
    """What may get lost, by a name for each way."""
    copy: Callable[[], Callable[[], object]] | None = None
    """Copy everything that it holds for the layer; return what puts the copy in its place again."""


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

    async def copy(self, nodes: Collection[int]) -> Callable[[], object]:
        """Have somebody copy what the engine holds for these nodes; return what puts it in place again."""
        assert self.engine.copy is not None
        await self.reached(nodes)
        return await asyncio.to_thread(self.engine.copy)

    async def lose(self, loss: Loss, nodes: Collection[int]) -> None:
        """Have something lost, and wait until each of these nodes has told that it may have missed something."""
        # Each takes part, and has sent something since the latest copy: of an equal one nobody could tell.
        await self._reach_each_other(nodes)
        before = await self.count_gaps()
        await asyncio.to_thread(loss.make)

        async def noticed() -> bool:
            now = await self.count_gaps()
            return all(now[node] > before[node] for node in nodes)

        if loss.told:
            await eventually(noticed, within=self.within, what="every node counts a gap")
            # One that was told by another may have to find out more by itself.
            await self._reach_each_other(nodes)

    async def _reach_each_other(self, nodes: Collection[int]) -> None:
        channels = await asyncio.gather(*(self.nodes[node].new_channel() for node in nodes))
        for channel, receiver in zip(channels, nodes, strict=True):
            for sender in nodes:
                call = self.nodes[receiver].start("receive_until", channel, [sender + 1], within=self.within)
                message = {"type": "here", "number": sender + 1}
                while not call.done():
                    await self.nodes[sender].call("is_accepted", channel, message)
                    await asyncio.wait([call], timeout=0.05)
                await call

    async def reached(self, nodes: Collection[int]) -> None:
        """Wait until each of these nodes takes part, and its engine answers."""
        await asyncio.gather(*map(self._reached, nodes))

    async def _reached(self, node: int) -> None:
        await eventually(lambda: self.nodes[node].call("is_reached"), within=self.within)

    async def renew_all(self) -> None:
        """Replace every node, as nobody knows what a programme that failed has left behind."""
        await self.close()
        await self.open(expiry=self.expiry)

    async def close(self) -> None:
        """End every node."""
        old, self.nodes = self.nodes, []
        await asyncio.gather(*(peer.stop() for peer in old), return_exceptions=True)
