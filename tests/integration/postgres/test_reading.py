"""Who reads the connections: the loop that receives, or one that goes on sending, or else the layer's own thread."""

import asyncio
import threading
from typing import Any

import pytest

from channels_trunk.hub import linger
from channels_trunk.testing import eventually
from channels_trunk.testing.commands import in_thread
from channels_trunk.transports.postgres import reading, watch
from tests.integration.postgres.conftest import HELLO, MakeLayer, is_ok, member, terminate, works
from tests.integration.reading import (
    in_plain_thread,
    reader_of,
    reads_if_it_goes_on_sending,
    sleeps_however_close_rings_are,
    stays_awake_between_rings_that_are_close,
)
from tests.plugins.servers.postgres_server import PostgresServer

MANY = 600


def here() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@pytest.mark.usefixtures("no_taking_over")
async def test_the_loop_that_receives_reads(make_layer: MakeLayer, postgres_database: str) -> None:
    one, other = make_layer(postgres_database), make_layer(postgres_database)
    channel = await other.new_channel()
    waiting = asyncio.ensure_future(other.receive(channel))
    await eventually(lambda: reader_of(other) is here())
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        free.wait(30)

    await works(one, other)
    other._hub.on_io(hold)
    try:
        await eventually(held.is_set)
        # Nor does it need the layer's own thread to send.
        async with asyncio.timeout(10):
            for _ in range(3):
                await one.send(channel, HELLO)
                assert await waiting == HELLO
                waiting = asyncio.ensure_future(other.receive(channel))
                await other.group_send("nobody", HELLO)
    finally:
        free.set()
        waiting.cancel()


@pytest.mark.usefixtures("no_taking_over")
async def test_a_loop_that_goes_on_sending_reads_its_answers(make_layer: MakeLayer, postgres_database: str) -> None:
    layer = make_layer(postgres_database)
    await reads_if_it_goes_on_sending(layer)
    channel = await in_thread(lambda: layer.sync.new_channel())

    async def receive_elsewhere() -> None:
        assert await layer.receive(channel) == HELLO

    receiving = asyncio.ensure_future(in_thread(lambda: asyncio.run(receive_elsewhere())))
    await eventually(lambda: reader_of(layer) is not here())
    await layer.send(channel, HELLO)
    await receiving


async def test_a_loop_that_stands_still_holds_up_its_own_receivers_alone(
    make_layer: MakeLayer, postgres_database: str
) -> None:
    one, other = make_layer(postgres_database), make_layer(postgres_database)
    channel, second = await other.new_channel(), await other.new_channel()
    waiting = asyncio.ensure_future(other.receive(channel))
    await eventually(lambda: reader_of(other) is here())

    def talk() -> Any:
        other.sync.send("jobs", HELLO)
        asyncio.run(other.send("jobs", HELLO))
        other.sync.group_add("group", second)
        one.sync.group_send("group", HELLO)
        one.sync.send(channel, HELLO)
        return other.sync.receive(second, timeout=5)

    in_plain_thread(talk)
    assert await waiting == HELLO
    assert [await other.receive("jobs") for _ in range(2)] == [HELLO, HELLO]


async def test_a_loop_that_has_ended_is_not_waited_for(make_layer: MakeLayer, postgres_database: str) -> None:
    one, other = make_layer(postgres_database), make_layer(postgres_database)
    channel = await other.new_channel()
    await one.send(channel, HELLO)

    def live_and_end() -> bool:
        async def receive() -> None:
            assert await other.receive(channel) == HELLO
            one.sync.send(channel, HELLO)
            assert await other.receive(channel) == HELLO

        asyncio.run(receive())
        return True

    in_plain_thread(live_and_end)
    for _ in range(5):
        await other.send("jobs", HELLO)
        await other.group_add("group", channel)
    await one.group_send("group", HELLO)
    assert await other.receive(channel) == HELLO


async def test_order_while_the_watch_changes_hands(make_layer: MakeLayer, postgres_database: str) -> None:
    """Loops come and go as receivers, and some messages have to be fetched, which the layer's own thread does."""
    one, other = make_layer(postgres_database), make_layer(postgres_database, capacity=MANY)
    channel = await member(other)
    got: list[int] = []

    async def receive_some() -> None:
        messages = [await other.receive(channel) for _ in range(20)]
        got.extend(message["n"] for message in messages)

    async def send_all() -> None:
        for number in range(MANY):
            payload = "x" * (9_000 if number % 37 == 0 else 9)
            await one.group_send("members", {"type": "numbered", "n": number, "payload": payload})

    sending = asyncio.ensure_future(send_all())
    while len(got) < MANY:
        await asyncio.wait_for(receive_some(), 20)
        await asyncio.wait_for(in_thread(lambda: asyncio.run(receive_some())), 20)
    await sending
    assert got == list(range(MANY))


@pytest.mark.usefixtures("no_taking_over")
@pytest.mark.parametrize("purpose", ["listen", "write"])
async def test_a_session_that_ends_while_a_loop_reads(
    make_layer: MakeLayer, postgres_database: str, postgres: PostgresServer, purpose: str
) -> None:
    one, other = make_layer(postgres_database), make_layer(postgres_database)
    channel = await other.new_channel()
    waiting = asyncio.ensure_future(other.receive(channel))
    await eventually(lambda: reader_of(other) is here())
    await works(one, other)
    assert terminate(postgres, postgres_database, purpose)
    await one.send(channel, HELLO)
    assert await asyncio.wait_for(waiting, 20) == HELLO
    await is_ok(one, other)
    await works(one, other)
    await reads_if_it_goes_on_sending(other)


async def test_with_inline_off_the_layers_own_thread_reads(make_layer: MakeLayer, postgres_database: str) -> None:
    one, other = make_layer(postgres_database), make_layer(postgres_database, inline=False)
    channel = await other.new_channel()
    waiting = asyncio.ensure_future(other.receive(channel))
    await one.send(channel, HELLO)
    assert await waiting == HELLO
    assert reader_of(other) is None
    await works(one, other)


async def test_where_there_is_no_epoll(
    make_layer: MakeLayer, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "HAS_EPOLL", False)
    monkeypatch.setattr(reading, "HAS_EPOLL", False)
    one, other = make_layer(postgres_database), make_layer(postgres_database)
    channel = await other.new_channel()
    waiting = asyncio.ensure_future(other.receive(channel))
    await one.send(channel, HELLO)
    assert await waiting == HELLO
    assert reader_of(other) is None
    await works(one, other)


@pytest.mark.usefixtures("no_taking_over")
async def test_a_loop_that_is_rung_often_stays_awake_for_the_next_if_it_may(
    make_layer: MakeLayer, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linger, "can_linger", lambda: True)
    # However slow the machine is.
    monkeypatch.setattr(linger, "BEHIND_A_SERVER", linger.BEHIND_A_SERVER._replace(soon=1.0))
    one, other, asleep = (
        make_layer(postgres_database),
        make_layer(postgres_database),
        make_layer(postgres_database, busy_wait=False),
    )
    await stays_awake_between_rings_that_are_close(one, other)
    await sleeps_however_close_rings_are(one, asleep)
