"""A node's place at the broker: its queue, the mark that shows that the queue kept what it held, and its lease."""

import asyncio
from collections import deque
from typing import Any

from channels_trunk.transports.base import NodeContext

from .errors import NOT_FOUND, AmqpError
from .link import Link
from .post import confirmed
from .publishing import Publication
from .topology import BARRIER_TYPE, EVERY_NODE_KEY, MARK_TYPE, Topology
from .wire import Properties

__all__ = ["Place"]

# A queue with very many bindings takes the broker longer, and it goes on when nobody waits for that. Seconds.
_LEAVE_WITHIN = 2.0


class Place:
    """Outlives connections; everything runs on the hub's loop."""

    def __init__(self, context: NodeContext, topology: Topology) -> None:
        self._context = context
        self._topology = topology
        self._life = 0  # counts the queues this node has had
        self._leases = 0
        self.is_taken = False
        """Whether the queue is this node's, though the connection may be lost."""
        self.doubt = ""
        """Why messages may have been lost; it stays until that is said, however often the connection ends before."""
        self._given_up: deque[str] = deque()  # queues to remove when their broker is there again
        self.bound: set[str] = set()
        """Groups whose binding the queue may have."""
        self._name_queues()

    def _name_queues(self) -> None:
        self.queue = self._topology.node_queue(self._context.node, self._life)
        """The node's queue."""
        self._mark = self._topology.mark_queue(self._context.node, self._life)

    async def take(self, link: Link) -> str:
        """Come back to the queue, or make one; return why messages may have been lost, or nothing."""
        lost = await self._why_not_kept(link) if self.is_taken else ""
        # Before the new queue has its mark, which says that nothing was lost.
        self.doubt = lost or self.doubt
        if lost or not self.is_taken:
            self._give_up()
            await link.desk.declare_queue(self.queue)
            await link.desk.declare_queue(self._mark)
            await self._set_mark(link)
            self.is_taken = True
        self._leases += 1
        lease = self._topology.lease(self._context.node, self._leases)
        await link.desk.declare_queue(lease)
        exchange = self._topology.groups_exchange
        await asyncio.gather(
            link.desk.bind(lease.name, self._topology.roll_exchange, ""),
            link.desk.bind(self.queue.name, exchange, self._topology.node_key(self._context.node)),
            link.desk.bind(self.queue.name, exchange, EVERY_NODE_KEY),
        )
        return self.doubt

    async def _why_not_kept(self, link: Link) -> str:
        try:
            async with link.scratch() as channel:
                await channel.declare_queue(self.queue, passive=True)
                messages, _ = await channel.declare_queue(self._mark, passive=True)
        except AmqpError as error:
            if error.code != NOT_FOUND:
                raise
            return "RabbitMQ no longer has this process's queue"
        return "" if messages else "RabbitMQ was restarted, and lost what was in this process's queue"

    def _give_up(self) -> None:
        if self._life:
            self._given_up.extend((self.queue.name, self._mark.name))
        self._life += 1
        self._name_queues()
        self.bound = set()

    async def _set_mark(self, link: Link) -> None:
        properties = Properties(MARK_TYPE, self._context.node.encode())
        await link.publisher.publish([Publication("", self._mark.name, properties, b"")])

    async def look_after(self, link: Link) -> str:
        """Keep the mark, and remove what was given up; return why messages may have been lost, or nothing."""
        lost = ""
        messages, _ = await link.desk.declare_queue(self._mark)
        if not messages:
            self.doubt = lost = "RabbitMQ lost what was in this process's queue"
            await self._set_mark(link)
        await self._probe(link)
        await self._remove_given_up(link)
        return lost

    def said(self, reason: str) -> None:
        """The sink was told; there may be another reason by now."""
        if self.doubt == reason:
            self.doubt = ""

    async def _probe(self, link: Link) -> None:
        """See that messages find their way here: bindings go unnoticed with an exchange that is deleted."""
        number = f"{self._context.node}.probe".encode()
        key = self._topology.node_key(self._context.node)
        probe = Publication(
            self._topology.groups_exchange, key, Properties(BARRIER_TYPE, number), b"", must_arrive=True
        )
        if (await confirmed(link, [probe])).lost:
            self.doubt = "the bindings of this process's queue were deleted"
            raise AmqpError("this process's queue is bound to nothing")

    async def _remove_given_up(self, link: Link) -> None:
        for name in list(self._given_up):
            try:
                async with link.scratch() as channel:
                    await channel.delete(name)
            except AmqpError as error:
                if link.connection.is_over:
                    raise
                if error.code != NOT_FOUND:
                    return  # its broker is still down: later
            self._given_up.remove(name)

    async def leave(self, link: Link) -> None:
        """Remove the queues, and the exchange if nobody else's is bound to it; the lease goes with the connection."""
        if self.is_taken:
            self.is_taken = False
            self.bound = set()
            removing = [link.desk.delete(name) for name in (self.queue.name, self._mark.name)]
            # The last thing that the desk does: where the exchange is in use, RabbitMQ closes the channel.
            removing.append(link.desk.delete_unused_exchange(self._topology.groups_exchange))
            await asyncio.wait(removing, timeout=_LEAVE_WITHIN)
            for removal in removing:
                removal.add_done_callback(_forget_outcome)  # the queues expire, whatever becomes of it

    def forget(self) -> None:
        """The queues stay behind, and expire."""
        self.is_taken = False
        self.bound = set()


def _forget_outcome(removal: "asyncio.Future[Any]") -> None:
    if not removal.cancelled():
        removal.exception()
