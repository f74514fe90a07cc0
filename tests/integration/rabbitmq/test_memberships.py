"""Normal channels as members of groups: who is one is what the broker's notes say, and nobody makes it otherwise."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import aiormq
import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.layers import RabbitMQChannelLayer
from channels_trunk.testing import eventually
from channels_trunk.testing.commands import in_thread
from channels_trunk.testing.proxy import Proxy
from channels_trunk.transports.rabbitmq.errors import AmqpError
from channels_trunk.transports.rabbitmq.members import Members
from tests.integration.rabbitmq.conftest import HELLO, MakeLayer, ProxyFactory, is_away, is_ok, through
from tests.plugins.servers import RabbitServer, on_every_rabbitmq

pytestmark = on_every_rabbitmq
MARK = {"type": "mark"}
WAITS_FOR_OTHERS = 1.0  # seconds; who has not ended by then is taken to wait


async def members_get(sender: RabbitMQChannelLayer, reader: RabbitMQChannelLayer, channel: str = "jobs") -> bool:
    """Whether what is sent to the group comes to the normal channel."""
    await sender.group_send("group", HELLO)
    await sender.send(channel, MARK)  # behind it
    got = [await asyncio.wait_for(reader.receive(channel), 60)]
    while got[-1] != MARK:
        got.append(await asyncio.wait_for(reader.receive(channel), 60))
    return len(got) > 1


async def look(layer: RabbitMQChannelLayer, *, thoroughly: bool = False) -> None:
    """What a process does now and then; with `thoroughly`, every few minutes."""
    transport: Any = layer._hub.transport

    async def looking() -> None:
        if thoroughly:
            members = transport._members
            await members.look_after(transport._link, transport._workers, transport._ledger, thoroughly=True)
        else:
            await transport.maintain()

    loop = transport._link.connection.loop
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(looking(), loop))


async def delete_queue(url: str, *names: str) -> None:
    async with await aiormq.connect(url) as connection:
        channel = await connection.channel()
        for name in names:
            await channel.queue_delete(name)


async def come_back(gate: Proxy, *layers: RabbitMQChannelLayer) -> None:
    gate.refuse()
    gate.cut()
    await is_away(*layers)
    gate.resume()
    await is_ok(*layers)


async def discard(layer: RabbitMQChannelLayer) -> None:
    await layer.group_discard("group", "jobs")


async def flush(layer: RabbitMQChannelLayer) -> None:
    await layer.flush()


@pytest.mark.parametrize("end", [discard, flush])
async def test_what_others_have_ended_does_not_come_back_with_the_connection_of_who_began_it(
    make_layer: MakeLayer,
    proxy: ProxyFactory,
    broker: RabbitServer,
    url: str,
    end: Callable[[RabbitMQChannelLayer], Awaitable[None]],
) -> None:
    gate = proxy(broker.host, broker.port)
    here, there = make_layer(host=through(gate, url)), make_layer()
    await here.group_add("group", "jobs")
    assert await members_get(there, there)
    await end(there)
    await come_back(gate, here)
    await look(here)
    assert not await members_get(there, there)
    assert not await members_get(here, there)
    # And one that is added again is a member again.
    await there.group_add("group", "jobs")
    await come_back(gate, here)
    assert await members_get(here, there)


async def test_what_others_have_begun_stands_when_a_connection_comes_back(
    make_layer: MakeLayer, proxy: ProxyFactory, broker: RabbitServer, url: str
) -> None:
    gate = proxy(broker.host, broker.port)
    here, there = make_layer(host=through(gate, url)), make_layer()
    await here.group_add("group", "jobs")
    await here.group_discard("group", "jobs")
    await there.group_add("group", "jobs")
    await come_back(gate, here)
    await look(here)
    assert await members_get(there, here)


async def test_the_later_word_holds_though_it_was_earlier_by_the_clock_of_who_said_it(
    make_layer: MakeLayer,
) -> None:
    here, there = make_layer(), make_layer()
    await here.group_add("group", "jobs")
    await there.new_channel()
    clock = there._hub.context.clock
    behind: Any = type("Behind", (), {"wall": lambda _: clock.wall() - 60, "monotonic": lambda _: clock.monotonic()})()
    link: Any = there._hub.transport._link  # type: ignore[attr-defined]
    link.context = link.context._replace(clock=behind)
    await there.group_discard("group", "jobs")
    here._hub.transport._members.doubt()  # type: ignore[attr-defined]
    await look(here)
    assert not await members_get(there, there)


async def test_a_membership_outlives_its_queue(make_layer: MakeLayer, url: str) -> None:
    """An operator deletes the queue, and the next message, or a look, makes it anew."""
    here, there = make_layer(), make_layer()
    await here.group_add("group", "jobs")
    await delete_queue(url, "asgi.channel.jobs")
    await look(here)
    assert await members_get(there, there)
    await delete_queue(url, "asgi.channel.jobs")
    await there.send("jobs", MARK)  # it had a queue a moment ago, and has one again
    await eventually(lambda: members_get(there, there))
    assert here.stats().gaps_total == 1


async def test_whoever_looks_finds_that_a_members_queue_is_gone_and_says_so(make_layer: MakeLayer, url: str) -> None:
    here, there = make_layer(), make_layer()
    await here.group_add("group", "jobs")
    await there.new_channel()
    await delete_queue(url, "asgi.channel.jobs")
    await look(there, thoroughly=True)
    assert there.stats().gaps_total == 1
    assert await members_get(here, here)
    await look(there, thoroughly=True)
    assert there.stats().gaps_total == 1


async def test_a_membership_stands_when_all_processes_were_gone_until_its_queue_had_expired(
    make_layer: MakeLayer, url: str
) -> None:
    gone = make_layer()
    await gone.group_add("group", "jobs")
    await gone.close()
    await delete_queue(url, "asgi.channel.jobs")
    sender = make_layer()
    await sender.group_send("group", HELLO)
    assert await asyncio.wait_for(make_layer().receive("jobs"), 60) == HELLO
    assert sender.stats().gaps_total == 0


class Held:
    """A process stands still before it binds and unbinds what the notes say, which it has read.

    If somebody has ended something meanwhile, it stands still once more when it has bound and unbound.
    """

    def __init__(self, layer: RabbitMQChannelLayer, monkeypatch: pytest.MonkeyPatch) -> None:
        self._members = layer._hub.transport._members  # type: ignore[attr-defined]
        self._apply = Members._apply
        self._stands, self._may_go, self._has_done, self._may_end = (threading.Event() for _ in range(4))
        held = self

        async def apply(members: Members, *args: Any) -> None:
            if members is not held._members:
                await held._apply(members, *args)
                return
            held._stands.set()
            await eventually(held._may_go.is_set)
            await held._apply(members, *args)
            held._has_done.set()
            await eventually(held._may_end.is_set)

        monkeypatch.setattr(Members, "_apply", apply)

    async def stands(self) -> None:
        await eventually(self._stands.is_set)

    async def overtake(self, do: Callable[[], Awaitable[None]]) -> None:
        """Call while it stands; return when that has ended, which may be when the process has done its part."""
        await self.stands()
        done = asyncio.ensure_future(do())
        await asyncio.wait({done}, timeout=WAITS_FOR_OTHERS)
        if not done.done():
            self.go_on()
        await done
        self._may_go.set()
        await eventually(self._has_done.is_set)

    def go_on(self) -> None:
        self._may_go.set()
        self._may_end.set()


async def add(layer: RabbitMQChannelLayer) -> None:
    await layer.group_add("group", "jobs")


@pytest.mark.parametrize("end", [discard, flush])
async def test_what_is_ended_while_another_is_about_to_bind_it_does_not_come_back(
    make_layer: MakeLayer,
    proxy: ProxyFactory,
    broker: RabbitServer,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[RabbitMQChannelLayer], Awaitable[None]],
) -> None:
    """The other comes back to the broker, and has read the notes before."""
    gate = proxy(broker.host, broker.port)
    here, there = make_layer(host=through(gate, url)), make_layer()
    await here.group_add("group", "jobs")
    assert await members_get(there, there)
    held = Held(here, monkeypatch)
    await come_back(gate, here)
    looking = asyncio.ensure_future(look(here))
    await held.overtake(lambda: end(there))
    assert not await members_get(there, there)
    held.go_on()
    await looking
    assert not await members_get(there, there)


async def test_what_is_begun_while_another_is_about_to_unbind_it_stands(
    make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = make_layer(), make_layer()
    await here.group_add("group", "jobs")
    await here.group_discard("group", "jobs")
    await there.new_channel()
    held = Held(there, monkeypatch)
    looking = asyncio.ensure_future(look(there, thoroughly=True))
    await held.overtake(lambda: add(here))
    assert await members_get(here, here)
    held.go_on()
    await looking
    assert await members_get(here, here)


async def test_nobody_waits_for_who_was_cut_off_while_it_bound(
    make_layer: MakeLayer, proxy: ProxyFactory, broker: RabbitServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = proxy(broker.host, broker.port)
    here, there = make_layer(host=through(gate, url)), make_layer()
    await here.group_add("group", "jobs")
    await there.new_channel()
    held = Held(here, monkeypatch)
    looking = asyncio.ensure_future(look(here, thoroughly=True))
    await held.stands()
    gate.refuse()
    gate.cut()
    await there.group_discard("group", "jobs")
    assert not await members_get(there, there)
    held.go_on()
    gate.resume()
    await asyncio.wait({looking})
    assert isinstance(looking.exception(), AmqpError)
    assert not await members_get(there, there)


async def test_who_cannot_wait_until_another_has_bound_is_told_so(
    make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = make_layer(), make_layer(send_timeout=2.0)
    await here.group_add("group", "jobs")
    await there.new_channel()
    held = Held(here, monkeypatch)
    looking = asyncio.ensure_future(look(here, thoroughly=True))
    await held.stands()
    with pytest.raises(TransportUnavailable):
        await there.group_discard("group", "jobs")
    held.go_on()
    await looking
    await there.group_discard("group", "jobs")
    assert not await members_get(there, there)


class Refused:
    """What follows a note is refused while `refuses`; `name` is what binds or unbinds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.refuses, original = True, getattr(Members, name)

        async def refusing(*args: Any) -> None:
            if self.refuses:
                raise AmqpError("not now")
            await original(*args)

        monkeypatch.setattr(Members, name, refusing)


async def test_what_was_noted_and_then_failed_is_done_soon(
    make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = make_layer()
    await layer.new_channel()
    binding = Refused(monkeypatch, "_bind_one")
    with pytest.raises(TransportUnavailable):
        await add(layer)
    binding.refuses = False
    await eventually(lambda: members_get(layer, layer))
    unbinding = Refused(monkeypatch, "_unbind_one")
    with pytest.raises(TransportUnavailable):
        await discard(layer)
    unbinding.refuses = False

    async def is_out() -> bool:
        return not await members_get(layer, layer)

    await eventually(is_out)
    # No connection was lost, which would have them looked after as well.
    assert layer.stats().reconnects_total == 0


@pytest.mark.parametrize("end", [discard, flush])
async def test_what_a_process_that_was_killed_had_begun_to_end_others_end(
    make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch, end: Callable[[RabbitMQChannelLayer], Awaitable[None]]
) -> None:
    here, there = make_layer(), make_layer()
    await here.group_add("group", "jobs")
    await there.new_channel()

    async def nothing(*_args: Any) -> None:
        """The process was killed before."""

    with monkeypatch.context() as patch:
        patch.setattr(Members, "_unbind_one", nothing)
        await end(here)
    await look(there, thoroughly=True)
    assert not await members_get(there, there)


async def test_notes_that_somebody_has_deleted_are_written_anew(make_layer: MakeLayer, url: str) -> None:
    layer = make_layer()
    await layer.send("jobs", HELLO)
    await delete_queue(url, "asgi.ledger")
    await layer.send("other", HELLO)
    await layer.group_add("group", "other")
    await layer.flush()
    assert not await members_get(layer, layer, "other")


async def test_a_membership_whose_note_was_lost_is_over_and_that_is_said(make_layer: MakeLayer, url: str) -> None:
    layer = make_layer()
    await layer.group_add("group", "jobs")
    await delete_queue(url, "asgi.ledger")
    await look(layer, thoroughly=True)
    assert layer.stats().gaps_total == 1
    assert not await members_get(layer, layer)


async def test_a_broker_that_has_lost_everything_is_a_gap_and_the_end_of_memberships_of_normal_channels(
    make_layer: MakeLayer, broker: RabbitServer, url: str
) -> None:
    here, there = make_layer(gap_event="gap.said"), make_layer()
    channel = await here.new_channel()
    for member in (channel, "jobs"):
        await here.group_add("group", member)
    await there.send("jobs", HELLO)
    vhost = url.rpartition("/")[2]
    await in_thread(lambda: broker.ctl("delete_vhost", vhost))
    await is_away(here, there)
    await in_thread(lambda: broker.ctl("add_vhost", vhost))
    await in_thread(lambda: broker.ctl("set_permissions", "--vhost", vhost, "trunk", ".*", ".*", ".*"))
    gap = {"type": "gap.said"}
    assert await asyncio.wait_for(here.receive(channel), 60) == gap
    await is_ok(here, there, within=60)
    transport: Any = here._hub.transport
    await eventually(lambda: transport._members.next_end() == float("inf"))
    assert not await members_get(there, there)
    # On a slow machine that the note was lost is found later, and is one gap more.
    while (got := await asyncio.wait_for(here.receive(channel), 60)) == gap:
        pass
    assert got == HELLO
    await there.group_add("group", "jobs")
    assert await members_get(here, there)
