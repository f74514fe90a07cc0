"""At most three connections per process, whatever the number of loops, threads and channels."""

import asyncio
import os
import threading

from channels_trunk.layers import PostgresChannelLayer
from channels_trunk.testing import eventually, eventually_blocking
from tests.integration.postgres.conftest import HELLO, MakeLayer, ask, sessions, works

LOOPS, CHANNELS = 8, 1_000


def converse(layer: PostgresChannelLayer, failures: list[BaseException]) -> None:
    """In a thread and a loop of its own, and then without one."""

    async def in_loop() -> None:
        channel = await layer.new_channel()
        await layer.group_add("room", channel)
        await layer.send("jobs", HELLO)
        assert await layer.receive("jobs") == HELLO
        await layer.group_discard("room", channel)

    try:
        asyncio.run(in_loop())
        layer.sync.group_send("room", HELLO)
        layer.sync.send("jobs-of-threads", HELLO)
        assert layer.sync.receive("jobs-of-threads", timeout=20) == HELLO
    except BaseException as error:  # noqa: BLE001 - told to the test
        failures.append(error)


async def test_three_connections_and_their_names(make_layer: MakeLayer, postgres_database: str) -> None:
    layer, other = make_layer(postgres_database, capacity=10_000), make_layer(postgres_database)
    failures: list[BaseException] = []
    threads = [threading.Thread(target=converse, args=(layer, failures)) for _ in range(LOOPS)]
    for thread in threads:
        thread.start()
    channels = [await layer.new_channel() for _ in range(CHANNELS)]
    await asyncio.gather(*(layer.group_add(f"group-{n}", channel) for n, channel in enumerate(channels)))
    await eventually(lambda: not any(thread.is_alive() for thread in threads), within=30)
    assert not failures
    await works(layer, other)
    node = layer.stats().node
    of_layer = [name for name in sessions(postgres_database) if node in name]
    assert of_layer == [f"channels-trunk {purpose} {node}" for purpose in ("keep", "listen", "write")]
    assert len(sessions(postgres_database)) == 6
    # 64 shards of groups and of normal channels each, the node's own channel, and that of all.
    [(most,)] = ask(postgres_database, "SELECT count(*) FROM trunk_nodes")
    assert most == 2


async def test_an_application_name_of_the_users(make_layer: MakeLayer, postgres_database: str) -> None:
    layer = make_layer(f"{postgres_database}?application_name=the-chat")
    await works(layer, layer)
    names = (
        "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ 'the'"
    )
    assert ask(postgres_database, names) == [("the-chat",)] * 3


def test_a_forked_child_has_connections_of_its_own(postgres_database: str) -> None:
    layer = PostgresChannelLayer(dsn=postgres_database)
    try:
        channel = layer.sync.new_channel()
        layer.sync.send("jobs", HELLO)
        assert layer.sync.receive("jobs", timeout=20) == HELLO
        before = sessions(postgres_database)
        read_end, write_end = os.pipe()
        child = fork(layer, channel, write_end)
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            assert pipe.read() == "ok\n"
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert layer.sync.receive(channel, timeout=20) == {"type": "from.child", "sessions": 6}
        eventually_blocking(lambda: sessions(postgres_database) == before)
        layer.sync.send("jobs", HELLO)
        assert layer.sync.receive("jobs", timeout=20) == HELLO
        assert layer.stats().reconnects_total == 0
    finally:
        layer.sync.close()


def fork(layer: PostgresChannelLayer, channel: str, pipe: int) -> int:
    """Fork a child that sends to the parent; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        layer.sync.send("jobs", HELLO)
        layer.sync.receive("jobs", timeout=20)
        layer.sync.send(channel, {"type": "from.child", "sessions": len(sessions(str(layer._values["dsn"])))})
        layer.sync.close()
        os.write(pipe, b"ok\n")
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - nothing may return into the parent's code
        os.write(pipe, f"{error!r}\n".encode())
        os._exit(1)
