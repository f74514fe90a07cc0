"""The exchanges of a prefix: whoever comes makes them, and the last one that leaves removes that for groups.

RabbitMQ could remove it by itself (auto-delete). But since 4.3 it then looks at all bindings of the exchange for each
new one, so that 8,000 joins take minutes.
"""

from channels_trunk.aside import logger

from .errors import PRECONDITION_FAILED, AmqpError
from .link import Link

__all__ = ["make_exchanges"]


async def make_exchanges(link: Link, complained: set[str]) -> None:
    """Make them, or take them as they are."""
    topology = link.settings.topology
    if await _is_as_it_was(link, topology.groups_exchange) and topology.groups_exchange not in complained:
        complained.add(topology.groups_exchange)
        logger.warning(
            "RabbitMQ exchange %s was made by an earlier version of this package, and is used as it is. From RabbitMQ "
            "4.3 on joins take the longer the more groups there are, until it is made anew: when no earlier version "
            "runs any more, delete it (each process then says a gap), or stop all processes for once",
            topology.groups_exchange,
        )
    await link.desk.declare_exchange(topology.roll_exchange, "fanout", auto_delete=True)


async def _is_as_it_was(link: Link, name: str) -> bool:
    """Make the exchange for groups; whether it was there before, in the way that earlier versions made it."""
    try:
        async with link.scratch() as channel:
            await channel.declare_exchange(name, "direct", auto_delete=False)
    except AmqpError as error:
        if error.code != PRECONDITION_FAILED:
            raise
    else:
        return False
    async with link.scratch() as channel:
        await channel.declare_exchange(name, "direct", auto_delete=True)
    return True
