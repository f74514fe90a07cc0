"""Callers' threads send the statement themselves, and a blocking one takes the answer, too."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import psycopg
import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.layers import PostgresChannelLayer
from channels_trunk.testing import eventually
from channels_trunk.testing.commands import in_thread
from channels_trunk.transports.postgres import watch
from channels_trunk.transports.postgres.names import LOCK_CLASS, Names
from channels_trunk.transports.postgres.wire import Statement, Wire
from tests.integration.postgres.conftest import (
    HELLO,
    MakeLayer,
    ProxyFactory,
    ask,
    member,
    sessions,
    terminate,
    works,
)
from tests.plugins.impatience import impatient
from tests.plugins.servers.postgres_server import PostgresServer, dsn_for

LOCK = 1


async def warmed_up(layer: PostgresChannelLayer) -> None:
    """Its session for writing stands, and knows the statement."""
    for _ in range(2):
        await in_thread(lambda: layer.sync.group_send("nobody", HELLO))


@asynccontextmanager
async def no_appends(dsn: str) -> AsyncIterator[Callable[[], bool]]:
    """Hold the lock under which rows are appended; yields whether somebody waits for it."""
    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    key = Names("public", "trunk_").lock_key
    await connection.execute("SELECT pg_advisory_lock(%s::integer, %s::integer)", (LOCK_CLASS, key))
    waiting = (
        "SELECT 1 FROM pg_stat_activity "
        "WHERE application_name LIKE 'channels-trunk write%%' AND wait_event = 'advisory'"
    )
    try:
        yield lambda: bool(ask(dsn, waiting))
    finally:
        await connection.close()


async def test_a_blocking_call_does_not_need_the_hubs_thread(make_layer: MakeLayer, postgres_database: str) -> None:
    here, there = make_layer(postgres_database), make_layer(postgres_database)
    channel = await member(there)
    await warmed_up(here)
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        free.wait(30)

    here._hub.on_io(hold)
    try:
        await eventually(held.is_set)
        async with asyncio.timeout(10):
            for _ in range(3):
                await in_thread(lambda: here.sync.group_send("members", HELLO))
            assert [await there.receive(channel) for _ in range(3)] == [HELLO] * 3
    finally:
        free.set()


async def test_messages_larger_than_what_a_socket_takes(make_layer: MakeLayer, postgres_database: str) -> None:
    here, there = make_layer(postgres_database), make_layer(postgres_database)
    channel = await there.new_channel()
    await warmed_up(here)
    body = "x" * 900_000

    def send(thread: int) -> None:
        for number in range(5):
            here.sync.send(channel, {"type": "n", "thread": thread, "number": number, "body": body})

    threads = [in_thread(partial(send, thread)) for thread in range(3)]
    tasks = [asyncio.ensure_future(here.send(channel, {"type": "t", "body": body})) for _ in range(3)]
    got: dict[int, list[int]] = {0: [], 1: [], 2: []}
    async with asyncio.timeout(60):
        for _ in range(18):
            message = await there.receive(channel)
            assert message["body"] == body
            if message["type"] == "n":
                got[message["thread"]].append(message["number"])
        await asyncio.gather(*threads, *tasks)
    assert got == {thread: list(range(5)) for thread in range(3)}


@pytest.mark.parametrize("blocking", [True, False], ids=["thread", "task"])
async def test_a_session_that_is_ended_under_a_call(
    make_layer: MakeLayer, postgres: PostgresServer, postgres_database: str, *, blocking: bool
) -> None:
    """It goes over another session, once."""
    here, there = make_layer(postgres_database), make_layer(postgres_database)
    channel = await there.new_channel()
    await works(here, there)
    await warmed_up(here)
    async with no_appends(postgres_database) as waits:
        if blocking:
            sending: Awaitable[Any] = in_thread(lambda: here.sync.send(channel, HELLO))
        else:
            sending = asyncio.ensure_future(here.send(channel, HELLO))
        await eventually(waits)
        assert terminate(postgres, postgres_database, "write") == 2
    async with asyncio.timeout(10):
        await sending
        assert await there.receive(channel) == HELLO
        await here.send(channel, {"type": "last"})
        assert await there.receive(channel) == {"type": "last"}


@pytest.mark.parametrize("blocking", [True, False], ids=["thread", "task"])
async def test_a_server_that_hangs_under_a_call(
    make_layer: MakeLayer, proxy: ProxyFactory, postgres_database: str, *, blocking: bool
) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(postgres_database)
    gate = proxy(str(parts["host"]), int(str(parts["port"])))
    here = make_layer(dsn_for(postgres_database, host=gate.host, port=gate.port))
    await warmed_up(here)
    gate.hang()
    with impatient(here, 1.0):
        calls: list[Awaitable[Any]] = [
            in_thread(lambda: here.sync.group_send("g", HELLO))
            if blocking
            else asyncio.ensure_future(here.group_send("g", HELLO))
        ]
        calls += [in_thread(lambda: here.sync.group_send("g", HELLO)) for _ in range(2)]
        async with asyncio.timeout(20):
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, TransportUnavailable) for outcome in outcomes), outcomes
    gate.resume()
    gate.cut()
    await eventually(lambda: here.health().state == "ok", within=20)
    await here.group_send("g", HELLO)


async def test_where_there_is_no_epoll_the_hub_does_it_all(
    make_layer: MakeLayer, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "HAS_EPOLL", False)
    here, there = make_layer(postgres_database), make_layer(postgres_database)
    await works(here, there)
    channel = await there.new_channel()
    large = {"type": "large", "body": "x" * 900_000}
    async with asyncio.timeout(20):
        await asyncio.gather(*(in_thread(lambda: here.sync.send(channel, large)) for _ in range(3)))
        assert [await there.receive(channel) for _ in range(3)] == [large] * 3


async def test_a_process_has_three_sessions_all_the_while(make_layer: MakeLayer, postgres_database: str) -> None:
    here = make_layer(postgres_database)
    await warmed_up(here)
    calls: list[Awaitable[Any]] = [in_thread(lambda: here.sync.group_send("g", HELLO)) for _ in range(20)]
    calls += [asyncio.ensure_future(here.group_send("g", HELLO)) for _ in range(20)]
    await asyncio.gather(*calls)
    assert len(sessions(postgres_database)) == 3


async def test_a_thread_waits_for_no_answer_but_its_own(postgres_database: str) -> None:
    """The loop took its answer before it came to wait, and another thread has started the next statement."""
    connection = await psycopg.AsyncConnection.connect(postgres_database, autocommit=True)
    wire = Wire(connection, on_notices=lambda _notices: None, on_lost=lambda _error: None)
    quick, slow = Statement("SELECT 1::bigint"), Statement("SELECT pg_advisory_xact_lock($1)::text")
    await wire.run(quick)
    await wire.run(slow, LOCK)
    answered, started, ended = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        assert wire.start(quick, (), lambda _outcome: answered.set())
        started.wait(10)
        wire.attend(50)

    def second() -> None:
        answered.wait(10)
        assert wire.start(slow, (LOCK,), lambda _outcome: ended.set())
        started.set()

    async with await psycopg.AsyncConnection.connect(postgres_database, autocommit=True) as holder:
        await holder.execute("SELECT pg_advisory_lock(%s::bigint)", (LOCK,))
        async with asyncio.timeout(30):  # the lock is held until both are through
            await asyncio.gather(in_thread(first), in_thread(second))
        assert not ended.is_set()
    await eventually(ended.is_set, within=20)
    wire.close()
