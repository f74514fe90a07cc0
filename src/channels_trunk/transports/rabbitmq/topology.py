"""Names and arguments of everything that a prefix has on the broker. Pure; see docs/reference/rabbitmq-topology.md.

Queues go by themselves: they have x-expires. Exchanges: see exchanges.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "BARRIER_TYPE",
    "EVERY_NODE_KEY",
    "FRAME_TYPE",
    "LEDGER_TYPE",
    "MARK_TYPE",
    "NODE_EXPIRES",
    "QUEUE_EXPIRES",
    "ROLL_TYPE",
    "QueueSpec",
    "Topology",
]

NODE_EXPIRES = 300.0
"""How long what is for a node waits for it to come back. Seconds, as the next."""
QUEUE_EXPIRES = 1800.0
"""How long a normal channel that nobody reads from or sends to is kept; longer if `expiry` is."""
_MOST_MILLISECONDS = 2**32 - 1  # 49 days; RabbitMQ takes no more for x-expires

# Without a limit, RabbitMQ 3 puts what is given back to the end of the queue, and RabbitMQ 4 drops it at the 20th time.
# (-1 means "no limit" to RabbitMQ 4, and "never twice" to RabbitMQ 3.)
_QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}

EVERY_NODE_KEY = "*"  # no group can have this name
FRAME_TYPE = b"application/vnd.channels-trunk.frame"
ROLL_TYPE = b"application/vnd.channels-trunk.roll"
BARRIER_TYPE = b"application/vnd.channels-trunk.barrier"
MARK_TYPE = b"application/vnd.channels-trunk.mark"
LEDGER_TYPE = b"application/vnd.channels-trunk.note"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSpec:
    """What to declare."""

    name: str
    arguments: Mapping[str, Any]
    durable: bool = True
    exclusive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The names of one prefix, and how its queues are made."""

    prefix: str
    groups_exchange: str
    durable: bool
    queue_type: str
    queue_expires: float
    ledger_expires: float
    """As long as a membership lasts: nobody may be there to keep the notes of it."""
    remote_capacity: int

    # --- exchanges

    @property
    def roll_exchange(self) -> str:
        """Every node's lease is bound here: what is published comes back from each (see `lease`)."""
        return f"{self.prefix}.roll"

    # --- routing keys of the groups exchange; the key of a group is its name

    @staticmethod
    def node_key(node: str) -> str:
        """What is for one node; "!" stands in no group's name."""
        return f"!{node}"

    # --- queues of a node

    def node_queue(self, node: str, life: int) -> QueueSpec:
        """What is for this node. It outlives the connection; `life` counts the queues that the node had to give up.

        A connection that is lost may still be there for the broker: with a single active consumer, the next connection
        waits its turn, and what the old one had not acknowledged comes first.
        """
        arguments = {
            "x-expires": _milliseconds(NODE_EXPIRES),
            "x-max-length": self.remote_capacity,
            "x-overflow": "reject-publish",
            "x-single-active-consumer": True,
        }
        return QueueSpec(name=f"{self.prefix}.node.{node}.{life}", arguments=arguments)

    def mark_queue(self, node: str, life: int) -> QueueSpec:
        """It holds one message that is not persistent: if that is gone, so is what the node's queue held."""
        arguments = {"x-expires": _milliseconds(NODE_EXPIRES), "x-max-length": 1}
        return QueueSpec(name=f"{self.prefix}.mark.{node}.{life}", arguments=arguments)

    def lease(self, node: str, number: int) -> QueueSpec:
        """It lives as long as the node's connection, and turns each message away to whoever it is from.

        It holds none, and what it drops goes to the groups exchange under the routing key it came with, with this
        queue's name in a header. So the broker itself says who is alive, even for a node that stands still.
        """
        arguments = {"x-max-length": 0, "x-dead-letter-exchange": self.groups_exchange}
        return QueueSpec(
            name=f"{self.prefix}.lease.{node}.{number}", arguments=arguments, durable=False, exclusive=True
        )

    def node_of_lease(self, name: str) -> str:
        """The node whose lease has this name."""
        return name.removeprefix(f"{self.prefix}.lease.").partition(".")[0]

    # --- queues of all nodes

    def channel_queue(self, channel: str, capacity: int) -> QueueSpec:
        """A normal channel. What goes back to its front has a priority, which quorum queues have from 4.0 on."""
        arguments: dict[str, Any] = {
            "x-expires": _milliseconds(self.queue_expires),
            "x-max-length": min(capacity, 2**31 - 1),
            "x-overflow": "reject-publish",
        }
        if self.queue_type == "quorum":
            arguments |= _QUORUM
        else:
            arguments["x-max-priority"] = 1
        return QueueSpec(name=self.channel_queue_name(channel), arguments=arguments, durable=self.durable)

    def channel_queue_name(self, channel: str) -> str:
        """The routing key of the default exchange for a normal channel."""
        return f"{self.prefix}.channel.{channel}"

    def ledger(self) -> QueueSpec:
        """Notes of which normal channels there are and which groups they are in; see ledger.py."""
        arguments: dict[str, Any] = {"x-expires": _milliseconds(self.ledger_expires)}
        if self.queue_type == "quorum":
            arguments |= _QUORUM
        return QueueSpec(name=f"{self.prefix}.ledger", arguments=arguments, durable=self.durable)


def _milliseconds(seconds: float) -> int:
    return max(1, round(min(seconds * 1000, _MOST_MILLISECONDS)))
