"""Rules about processes: workers, forks, and peers that are killed or stand still."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence

from channels_trunk.testing.commands import END, Commands
from channels_trunk.testing.conformance.checks import (
    assert_clean,
    assert_complete,
    assert_nothing_waits,
    with_stragglers,
)
from channels_trunk.testing.conformance.rules import rule
from channels_trunk.testing.layer import Message
from channels_trunk.testing.ledger import numbered
from channels_trunk.testing.peers import Peer
from channels_trunk.testing.rig import Rig

PLENTY = 100_000
JOBS = 1000
WORKERS = 4
HELLO = {"type": "hello"}

_talks = itertools.count(1)


class WorkerRules:
    """Normal channels and their workers."""

    @rule("normal_channels", peers=True, within=150)
    async def test_each_job_goes_to_one_worker(self, rig: Rig) -> None:
        """Four workers read one normal channel while two nodes send: each job exactly once."""
        here, workers = rig.here(capacity=PLENTY), await rig.peers(WORKERS, capacity=PLENTY)
        count = rig.scaled(JOBS)
        await run_workers(rig.name("jobs"), count=count, senders=[here, workers[0]], workers=workers)

    @rule("normal_channels", peers=True)
    async def test_job_waits_for_a_worker_that_comes_later(self, rig: Rig) -> None:
        """What was sent when nobody read is there for a node that starts afterwards."""
        here = rig.here()
        channel = rig.name("jobs")
        await here.flood(channel, count=30, sender="here")
        there = await rig.peer()
        assert_clean(await there.collect(channel, count=30), sent={"here": 30})

    @rule("normal_channels", "cancellation_safe", peers=True)
    async def test_worker_cancelled_while_waiting_loses_nothing(self, rig: Rig) -> None:
        """A worker that waited and was cancelled takes no job with it: the next reader gets it."""
        here, there = rig.here(), await rig.peer()
        channel = rig.name("jobs")
        for number in range(20):
            waiting = there.start("receive", channel)
            await there.new_channel()  # answered after the receive has begun
            waiting.cancel()
            await asyncio.sleep(0)  # the peer is told in this turn, and so before the next call
            await there.new_channel()  # answered after it has been cancelled
            await here.send(channel, numbered("here", number))
            assert await here.receive(channel) == numbered("here", number)

    @rule("normal_channels", peers=True)
    async def test_workers_beside_other_channels(self, rig: Rig) -> None:
        """Workers wait on several normal channels of one node, and one that has no work holds up no other."""
        here, there = rig.here(), await rig.peer()
        names = [rig.name(f"jobs-{i}") for i in range(5)]
        waiting = {name: there.start("receive", name) for name in names}
        for name in reversed(names):
            await here.send(name, {"type": "job", "name": name})
            assert await asyncio.wait_for(waiting[name], rig.seconds(10)) == {"type": "job", "name": name}


class ForkRules:
    """After os.fork(), as prefork servers and worker pools do it."""

    @rule("after_fork", "crosses_processes", "groups")
    async def test_child_and_parent_reach_each_other(self, rig: Rig) -> None:
        """A child works with the layer object that it inherits, as a node of its own, and so does the parent."""
        here, parent = rig.here(), await rig.process()
        group = rig.name("group")
        await parent.join(group)
        await self._talk(here, parent, rig.name("before"))
        child = await parent.fork()
        for one, two in ((parent, child), (child, parent), (here, child), (here, parent), (child, here)):
            await self._talk(one, two, group)
        assert (await child.new_channel()).partition("!")[0] != (await parent.new_channel()).partition("!")[0]

    @rule("after_fork", "crosses_processes", "groups")
    async def test_parent_keeps_what_is_its_own(self, rig: Rig) -> None:
        """The parent's messages and memberships stay the parent's: the child neither takes, nor doubles, nor ends
        them, even when it ends."""
        here, parent = rig.here(), await rig.process()
        group = rig.name("group")
        (channel,) = await parent.join(group)
        waiting = await parent.new_channel()
        received = parent.start("receive", waiting)
        await here.flood(channel, count=5, sender="before")
        child = await parent.fork()
        await child.call("group_send", group, HELLO)
        await child.call("close")
        await child.stop()
        await here.send(waiting, HELLO)
        assert await received == HELLO
        got = await parent.collect(channel, count=6)
        assert_clean(got[:5], sent={"before": 5})
        assert got[5:] == [HELLO]
        await here.group_send(group, HELLO)
        assert await parent.receive(channel) == HELLO
        await assert_nothing_waits(parent, channel, sender=here)

    @rule("after_fork", "crosses_processes")
    async def test_fork_in_the_middle_of_sending(self, rig: Rig) -> None:
        """What the parent is sending when it forks is sent once, and in order."""
        here, parent = rig.here(capacity=PLENTY), await rig.process(capacity=PLENTY)
        count = rig.scaled(1000)
        channel = await here.new_channel()
        flood = parent.start("flood", channel, count=count, sender="parent")
        children = [await parent.fork() for _ in range(3)]
        floods = [child.start("flood", channel, count=20, sender=f"child-{i}") for i, child in enumerate(children)]
        sent = {"parent": count, "child-0": 20, "child-1": 20, "child-2": 20}
        assert_clean(await here.collect(channel, count=sum(sent.values())), sent=sent)
        await asyncio.gather(flood, *floods)
        await assert_nothing_waits(here, channel)

    @rule("after_fork", "crosses_processes", "normal_channels", within=60)
    async def test_pool_of_forked_workers(self, rig: Rig) -> None:
        """A parent that has used the layer forks a pool: each job goes to one worker, once."""
        here, parent = rig.here(capacity=PLENTY), await rig.process(capacity=PLENTY)
        await self._talk(here, parent, rig.name("before"))
        children = [await parent.fork() for _ in range(3)]
        await run_workers(rig.name("jobs"), count=rig.scaled(200), senders=[here, parent], workers=[*children])

    @rule("after_fork", "crosses_processes", "groups")
    async def test_fork_before_the_first_use(self, rig: Rig) -> None:
        """A layer object that was made, and not used, before the fork, as with --preload."""
        here, parent = rig.here(), await rig.process()
        children = [await parent.fork() for _ in range(2)]
        await self._talk(children[0], children[1], rig.name("group"))
        await self._talk(here, children[1], rig.name("group"))
        await self._talk(children[0], parent, rig.name("group"))

    @rule("after_fork", "crosses_processes", "groups")
    async def test_grandchildren(self, rig: Rig) -> None:
        """A child that works with the layer forks in its turn, after its parent has gone."""
        here, parent = rig.here(), await rig.process()
        await self._talk(here, parent, rig.name("group"))
        child = await parent.fork()
        await self._talk(parent, child, rig.name("group"))
        await parent.stop()
        grandchild = await child.fork()
        for one, two in ((child, grandchild), (here, grandchild), (here, child)):
            await self._talk(one, two, rig.name("group"))

    @rule("after_fork", "crosses_processes", "sync_api")
    async def test_fork_while_threads_wait(self, rig: Rig) -> None:
        """A parent whose threads wait in blocking calls forks: they go on, and the child's own calls work."""
        here, parent = rig.here(), await rig.process()
        channel = await parent.new_channel()
        waiting = parent.start("call_sync", "receive", channel, timeout=rig.seconds(10))
        child = await parent.fork()
        own = await child.call("call_sync", "new_channel")
        await here.send(own, HELLO)
        assert await child.call("call_sync", "receive", own, timeout=10) == HELLO
        await child.call("call_sync", "send", channel, HELLO)
        assert await waiting == HELLO

    @rule("after_fork", "crosses_processes", "groups")
    async def test_killed_child_does_not_hinder_the_parent(self, rig: Rig) -> None:
        """A child is killed; the parent goes on, and forks a new one that works."""
        here, parent = rig.here(), await rig.process()
        await self._talk(here, parent, rig.name("group"))
        for _ in range(2):
            child = await parent.fork()
            await self._talk(parent, child, rig.name("group"))
            child.kill()
            await child.gone()
            await self._talk(here, parent, rig.name("group"))

    async def _talk(self, one: Commands | Peer, two: Commands | Peer, group: str) -> None:
        for sender, reader in ((one, two), (two, one)):
            # A group of its own each time: what was sent to one before may reach a process that joins a moment later.
            group = f"{group}-{next(_talks)}"
            (channel,) = await reader.join(group)
            await sender.send(channel, {"type": "direct"})
            await sender.group_send(group, {"type": "group"})
            assert await reader.collect(channel, count=2) == [{"type": "direct"}, {"type": "group"}]
            await reader.group_discard(group, channel)


class KillRules:
    """kill -9, and processes that stand still."""

    @rule("crosses_processes", "groups")
    async def test_killed_member_hinders_nobody(self, rig: Rig) -> None:
        """A member process is killed: sends to its group succeed, the others get everything, a new one joins."""
        here, killed, other = rig.here(), await rig.process(), await rig.process()
        group = rig.name("group")
        (dead,), (theirs,), (mine,) = await killed.join(group), await other.join(group), await here.join(group)
        killed.kill()
        await killed.gone()
        # More than its mailbox would hold: nobody may be told that a dead member is full.
        for number in range(rig.scaled(300)):
            await here.group_send(group, numbered("here", number))
            assert await other.receive(theirs) == numbered("here", number)
            assert await here.receive(mine) == numbered("here", number)
        await here.send(dead, HELLO)
        fresh = await rig.process()
        (theirs,) = await fresh.join(group)
        await other.group_send(group, HELLO)
        assert await fresh.receive(theirs) == HELLO

    @rule("crosses_processes", within=60)
    async def test_killed_senders_leave_no_gap(self, rig: Rig) -> None:
        """Senders are killed as they send: what came of each is whole from its beginning; another one's is complete."""
        here, steady = rig.here(capacity=PLENTY), await rig.process(capacity=PLENTY)
        channel = await here.new_channel()
        count = rig.scaled(1000)
        flood = steady.start("flood", channel, count=count, sender="steady")
        received: list[Message] = []
        for number in range(3):
            victim = await rig.process(capacity=PLENTY)
            name = f"victim-{number}"
            victim.start("flood_for_ever", channel, sender=name)
            missing = rig.random.randrange(1, 100)
            while missing:
                received.append(await here.receive(channel))
                missing -= received[-1]["sender"] == name
            victim.kill()
            await victim.gone()
        await flood
        # Not from here: what a node sends to itself may overtake what is on its way from others.
        await steady.send(channel, END)
        while (message := await here.receive(channel)) != END:
            received.append(message)
        victims = {message["sender"] for message in received} - {"steady"}
        sent = {name: 1 + max(m["number"] for m in received if m["sender"] == name) for name in victims}
        assert_clean(received, sent={**sent, "steady": count})

    @rule("crosses_processes", "normal_channels")
    async def test_killed_worker_takes_no_job_along(self, rig: Rig) -> None:
        """A worker is killed while it waits: jobs that are sent afterwards go to another one, all of them."""
        here, survivor = rig.here(), await rig.process()
        channel = rig.name("jobs")
        for turn in range(3):
            victim = await rig.process()
            victim.start("receive", channel)
            await victim.new_channel()  # answered after the receive has begun
            victim.kill()
            await victim.gone()
            await here.flood(channel, count=20, sender=f"turn-{turn}")
            # In whatever order: what a broker had sent to the victim before it knew comes behind what the other has.
            assert_complete(await survivor.collect(channel, count=20), sent={f"turn-{turn}": 20})

    @rule("crosses_processes", "groups", "remote_group_add", within=60)
    async def test_calls_about_a_killed_nodes_channel_return(self, rig: Rig) -> None:
        """group_add() and group_discard() of a channel whose owner was killed just now return, and raise nothing."""
        here, killed = rig.here(), await rig.process()
        group = rig.name("group")
        (theirs,), (mine,) = await killed.join(group), await here.join(group)
        await here.group_send(group, HELLO)
        killed.kill()
        await killed.gone()
        await here.group_add(rig.name("other"), theirs)
        await here.group_discard(group, theirs)
        await here.group_send(group, HELLO)
        assert await here.collect(mine, count=2) == [HELLO, HELLO]

    @rule("crosses_processes", "statistics", within=60)
    async def test_killed_node_is_soon_no_peer(self, rig: Rig) -> None:
        """peers() names a node until its process is killed, and soon not any more, though nobody sends it anything."""
        layer = rig.layer()
        killed, stays = await rig.process(), await rig.process()
        dead, alive = [(await peer.new_channel()).rpartition("!")[0] for peer in (killed, stays)]

        async def named() -> list[bool]:
            peers = await layer.peers()  # type: ignore[attr-defined]
            return [any(head.endswith(node) for node in peers) for head in (dead, alive)]

        await rig.eventually(lambda: _is(named, [True, True]))
        killed.kill()
        await killed.gone()
        # No longer than somebody would wait for its answer.
        await rig.eventually(lambda: _is(named, [False, True]), within=10)

    @rule("crosses_processes", "groups", within=60)
    async def test_process_that_stands_still_hinders_nobody(self, rig: Rig) -> None:
        """One member process is stopped: the others go on. When it goes on, it gets what was sent meanwhile."""
        here, frozen, other = rig.here(), await rig.process(), await rig.process()
        group = rig.name("group")
        (theirs,), (others,) = await frozen.join(group), await other.join(group)
        await frozen.freeze_unlocked(lambda: here.group_send(rig.name("probe"), HELLO), within=rig.seconds(2))
        try:
            for number in range(50):
                await here.group_send(group, numbered("here", number))
                assert await other.receive(others) == numbered("here", number)
        finally:
            frozen.thaw()
        assert_clean(await frozen.collect(theirs, count=50), sent={"here": 50})


async def _is(question: Callable[[], Awaitable[object]], answer: object) -> bool:
    return await question() == answer


async def run_workers(
    channel: str, *, count: int, senders: Sequence[Commands | Peer], workers: Sequence[Peer], within: float = 50
) -> list[list[Message]]:
    """Send `count` jobs from each sender, let the workers do them, and check that each was done once."""
    working = [worker.start("work", channel, within=within) for worker in workers]
    names = [f"sender-{i}" for i in range(len(senders))]
    floods = []
    for sender, name in zip(senders, names, strict=True):
        floods.append(
            sender.flood(channel, count=count, sender=name)
            if isinstance(sender, Commands)
            else sender.call("flood", channel, count=count, sender=name, patience=2 * within)
        )
    await asyncio.gather(*floods)
    for _ in workers:
        await senders[0].send(channel, END)
    done: list[list[Message]] = await asyncio.gather(*working)
    received = await with_stragglers(done, senders[0], channel, count=count * len(names))
    assert_complete(received, sent=dict.fromkeys(names, count))
    await assert_nothing_waits(senders[0], channel)
    return done
