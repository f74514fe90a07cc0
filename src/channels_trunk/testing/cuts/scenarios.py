"""Short lives of a node behind the proxy; a connection is cut somewhere in them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from channels_trunk.testing.cuts.stage import Stage

__all__ = ["SCENARIOS", "afterwards"]


async def hearing(stage: Stage) -> None:
    """A consumer: it is sent to, leaves a group and joins it again."""
    victim, witness, one, two = stage.victim, stage.witness, stage.name("one"), stage.name("two")
    channel = await stage.channel(victim)
    await stage.join(victim, one, channel)
    await stage.join(victim, two, channel)
    await stage.send(witness, channel)
    await asyncio.gather(*(stage.group_send(witness, group) for group in (one, two, one)))
    await stage.settle()
    await stage.leave(victim, one, channel)
    await stage.upkeep(victim)
    await stage.group_send(witness, one)
    await stage.group_send(witness, two)
    await stage.settle()
    await stage.join(victim, one, channel)
    await stage.group_send(witness, one)
    await stage.settle()


async def sending(stage: Stage) -> None:
    """A sender: to a channel, to a group of all kinds of members, several at a time; and it joins others' channels."""
    victim, witness, one, two = stage.victim, stage.witness, stage.name("one"), stage.name("two")
    theirs, own, jobs = await stage.channel(witness), await stage.channel(victim), stage.name("jobs")
    stage.read(witness, jobs)
    for channel in (theirs, own, jobs):
        await stage.join(victim if channel == own else witness, one, channel)
    await stage.send(victim, theirs)
    await stage.group_send(victim, one)
    await asyncio.gather(
        *(stage.send(victim, channel) for channel in (theirs, jobs, theirs)),
        *(stage.group_send(victim, one) for _ in range(2)),
        *(stage.send(victim, channel) for channel in (own, theirs, jobs)),
    )
    await stage.join(victim, two, theirs)
    await stage.group_send(victim, two)
    await stage.settle()
    await stage.leave(victim, two, theirs)
    await stage.leave(witness, one, jobs)
    await stage.group_send(victim, two)
    await stage.group_send(victim, one)
    await stage.settle()


async def working(stage: Stage) -> None:
    """A worker: it takes jobs, is cancelled, and its normal channel is in a group that somebody else ends."""
    victim, witness, one, two = stage.victim, stage.witness, stage.name("one"), stage.name("two")
    jobs, mixed = stage.name("jobs"), stage.name("mixed")
    stage.read(victim, jobs)
    for _ in range(3):
        await stage.send(witness, jobs)
    await stage.send(victim, jobs)
    await stage.settle()
    await stage.join(victim, one, jobs)
    await stage.join(victim, two, jobs)
    await asyncio.gather(*(stage.group_send(actor, one) for actor in (witness, victim, witness)))
    await stage.stop_reading(jobs)
    await asyncio.gather(*(stage.send(witness, jobs) for _ in range(3)))
    stage.read(witness, jobs)
    await stage.settle()
    await stage.leave(witness, one, jobs)
    await asyncio.gather(*(stage.group_send(actor, group) for actor in (witness, victim) for group in (one, two)))
    await stage.settle()
    await asyncio.gather(*(stage.send(victim, mixed) for _ in range(2)))
    stage.read(victim, mixed)
    await stage.settle()


async def ending(stage: Stage) -> None:
    """A node that flushes, closes while it sends, and begins anew."""
    victim, witness, one = stage.victim, stage.witness, stage.name("one")
    theirs, own, jobs = await stage.channel(witness), await stage.channel(victim, read=False), stage.name("jobs")
    for channel in (own, jobs):
        await stage.join(victim, one, channel)
    await stage.send(witness, own)
    await stage.group_send(witness, one)
    await stage.send(victim, jobs)
    if stage.can_flush:
        await stage.flush(victim)
    stage.read(victim, own)
    stage.read(witness, jobs)
    await stage.settle()
    await stage.group_send(witness, one)
    await stage.settle()  # who joins may get what others sent just before
    await stage.join(victim, one, own)
    await stage.group_send(witness, one)
    await stage.settle()
    await stage.stop_reading(own)
    pending = [asyncio.create_task(stage.send(victim, channel)) for channel in (theirs, jobs, theirs)]
    await asyncio.sleep(0)  # they have begun
    await stage.close(victim)
    await asyncio.gather(*pending)
    await stage.settle()


async def afterwards(stage: Stage) -> None:
    """Nothing is cut any more, and everything works as if new."""
    victim, witness, fresh, jobs = stage.victim, stage.witness, stage.name("fresh"), stage.name("fresh-jobs")
    for group in stage.groups():
        for actor in (witness, victim):
            await stage.group_send(actor, group)
    await stage.settle()
    channels = [await stage.channel(actor) for actor in (victim, witness)]
    for actor, channel in zip((victim, witness), channels, strict=True):
        await stage.join(actor, fresh, channel)
    stage.read(victim, jobs)
    for actor in (witness, victim):
        for channel in (*channels, jobs):
            await stage.send(actor, channel)
        await stage.group_send(actor, fresh)
    await stage.settle()
    await stage.stop_reading(jobs)
    stage.read(witness, jobs)
    await stage.settle(jobs)


SCENARIOS: Mapping[str, Callable[[Stage], Awaitable[None]]] = MappingProxyType(
    {scenario.__name__: scenario for scenario in (hearing, sending, working, ending)}
)
