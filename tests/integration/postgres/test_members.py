"""Normal channels in groups: who is a member is decided by the statement that stores the message."""

import asyncio
from collections.abc import Sequence

from channels_trunk.layers import PostgresChannelLayer
from tests.integration.postgres.conftest import HELLO, MakeLayer, ask

WORKERS = 5


async def got(layer: PostgresChannelLayer, channel: str) -> list[int]:
    """The numbers that wait in a channel."""
    await layer.send(channel, {"type": "number", "number": -1})
    numbers = []
    async with asyncio.timeout(20):
        while (number := (await layer.receive(channel))["number"]) >= 0:
            numbers.append(number)
    return numbers


async def send(layers: Sequence[PostgresChannelLayer], number: int) -> None:
    for layer in layers:
        await layer.group_send("room", {"type": "number", "number": number})


async def test_whoever_knows_a_member_or_does_not_sends_to_those_there_are(
    postgres_database: str, make_layer: MakeLayer
) -> None:
    """Members come and go in each order; nodes know of them, of some, or of none."""
    layers = [make_layer(postgres_database) for _ in range(3)]
    workers = [f"worker-{number}" for number in range(WORKERS)]
    expected: dict[str, list[int]] = {worker: [] for worker in workers}
    members: set[str] = set()
    for number in range(4 * WORKERS):
        worker = workers[(number * 3) % WORKERS]
        change = layers[0].group_discard if worker in members else layers[0].group_add
        await change("room", worker)
        members ^= {worker}
        senders = layers[: 1 + number % 3]
        await send(senders, number)
        for member in members:
            expected[member] += [number] * len(senders)
    for worker in workers:
        assert await got(layers[0], worker) == expected[worker]


async def test_members_come_and_go_while_others_send(postgres_database: str, make_layer: MakeLayer) -> None:
    """What was sent between the end of a join and the begin of a leave comes, once and in order."""
    here, there = make_layer(postgres_database, capacity=10_000), make_layer(postgres_database)
    sent = 0
    floods = True

    async def flood() -> None:
        nonlocal sent
        while floods:
            sent += 1
            await there.group_send("room", {"type": "number", "number": sent})

    flooding = asyncio.ensure_future(flood())
    try:
        for turn in range(20):
            worker = f"worker-{turn % 4}"
            async with asyncio.timeout(20):
                await here.group_add("room", worker)
                after_join = sent + 1  # what is under way may be for it, or not
                while sent < after_join + 3:
                    await asyncio.sleep(0)
                before_leave = sent - 1
                await here.group_discard("room", worker)
                after_leave = sent
            numbers = await got(here, worker)
            assert set(range(after_join, before_leave + 1)) <= set(numbers)
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
            assert numbers[-1] <= after_leave
            assert await got(here, worker) == []
    finally:
        floods = False
        await flooding


async def test_a_group_send_looks_for_members_only_where_there_may_be_some(
    postgres_database: str, make_layer: MakeLayer
) -> None:
    """The note of that is taken back when there are none, and stands again with the next."""
    layer = make_layer(postgres_database)
    noted = "SELECT with_members FROM trunk_state"
    await layer.send("jobs", HELLO)
    ask(postgres_database, "SELECT trunk_rotate(1, 1, 1)")
    assert ask(postgres_database, noted) == [(False,)]
    for _ in range(2):
        await layer.group_add("room", "worker")
        assert ask(postgres_database, noted) == [(True,)]
        await send([layer], 1)
        ask(postgres_database, "SELECT trunk_rotate(1, 1, 1)")
        assert ask(postgres_database, noted) == [(True,)]
        await send([layer], 2)
        await layer.group_discard("room", "worker")
        ask(postgres_database, "SELECT trunk_rotate(1, 1, 1)")
        assert ask(postgres_database, noted) == [(False,)]
        await send([layer], 3)
        assert await got(layer, "worker") == [1, 2]
