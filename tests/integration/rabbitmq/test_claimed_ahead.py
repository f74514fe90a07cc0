"""Jobs that a process has claimed, or has at hand, for receivers that are busy: none is lost, and none overtaken."""

import asyncio
from typing import Any

import pytest

from channels_trunk.layers import RabbitMQChannelLayer
from channels_trunk.testing import eventually
from channels_trunk.transports.rabbitmq.transport import RabbitMQTransport
from tests.integration.claimed_ahead import assert_killed_worker_loses_little, held, take, work_until_ahead
from tests.integration.rabbitmq.conftest import MakeLayer, nothing_goes_back

JOBS = 400
# A job that takes longer than those before it: what was claimed ahead goes back meanwhile.
LONG_SECONDS = 0.08
BACKEND = "channels_trunk.layers.RabbitMQChannelLayer"


async def send_jobs(layer: RabbitMQChannelLayer, numbers: range, channel: str = "jobs") -> None:
    await asyncio.gather(*(layer.send(channel, {"type": "job", "number": number}) for number in numbers))


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_a_quick_receiver_is_claimed_for_ahead_in_order(
    make_layer: MakeLayer, queue_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What goes back to a quorum queue goes to its end, before RabbitMQ 4.0.
    nothing_goes_back(monkeypatch)
    source, worker = (make_layer(capacity=JOBS, queue_type=queue_type) for _ in range(2))
    await send_jobs(source, range(JOBS))
    got = await work_until_ahead(worker)
    got += await take(worker, JOBS - len(got))
    assert got == list(range(JOBS))


async def test_jobs_that_take_long_now_and_then_do_not_change_the_order(make_layer: MakeLayer) -> None:
    source, worker = (make_layer(capacity=JOBS) for _ in range(2))
    await send_jobs(source, range(JOBS))
    got: list[int] = []
    while len(got) < JOBS:
        got += await take(worker, 1)
        if len(got) % 50 in (40, 41, 45, 48):
            await asyncio.sleep(LONG_SECONDS)
    assert got == list(range(JOBS))


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_what_a_busy_worker_holds_goes_to_another(make_layer: MakeLayer, queue_type: str) -> None:
    source, busy, other = (make_layer(capacity=JOBS, queue_type=queue_type) for _ in range(3))
    await send_jobs(source, range(JOBS))
    got = await work_until_ahead(busy)
    rest = await take(other, JOBS - len(got))
    assert sorted(got + rest) == list(range(JOBS))
    assert held(busy) == 0


async def test_what_is_not_taken_goes_back_to_its_place(make_layer: MakeLayer) -> None:
    source, worker = (make_layer(capacity=JOBS) for _ in range(2))
    await send_jobs(source, range(JOBS))
    got = await work_until_ahead(worker)
    await eventually(lambda: held(worker) == 0, within=10)
    assert got + await take(worker, JOBS - len(got)) == list(range(JOBS))


async def test_two_channels_that_are_read_quickly_do_not_mix(make_layer: MakeLayer) -> None:
    source, worker = (make_layer(capacity=JOBS) for _ in range(2))
    channels = ["jobs", "more-jobs"]
    sending = [asyncio.ensure_future(send_jobs(source, range(JOBS), channel)) for channel in channels]
    got = await asyncio.gather(*(take(worker, JOBS, channel) for channel in channels))
    await asyncio.gather(*sending)
    assert got == [list(range(JOBS))] * 2


async def test_close_gives_back_what_was_claimed_ahead(make_layer: MakeLayer) -> None:
    source, worker = (make_layer(capacity=JOBS) for _ in range(2))
    await send_jobs(source, range(JOBS))
    got = await work_until_ahead(worker)
    await worker.close()
    assert await take(source, JOBS - len(got)) == list(range(len(got), JOBS))


@pytest.mark.parametrize("by", ["worker", "source"])
async def test_flush_removes_what_a_worker_has_at_hand(make_layer: MakeLayer, by: str) -> None:
    source, worker = (make_layer(capacity=JOBS) for _ in range(2))
    await send_jobs(source, range(JOBS))
    await work_until_ahead(worker)
    await {"worker": worker, "source": source}[by].flush()
    await send_jobs(source, range(JOBS, JOBS + 1))
    assert await take(worker, 1) == [JOBS]


async def test_three_processes_flush_at_once(make_layer: MakeLayer) -> None:
    source, *workers = (make_layer(capacity=JOBS) for _ in range(3))
    await send_jobs(source, range(JOBS))
    for worker in workers:
        await work_until_ahead(worker)
    await asyncio.gather(*(layer.flush() for layer in (source, *workers)))
    await send_jobs(source, range(JOBS, JOBS + 2))
    assert await take(workers[0], 1) + await take(workers[1], 1) == [JOBS, JOBS + 1]


async def test_what_a_worker_gives_back_during_a_flush_is_flushed(
    make_layer: MakeLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, worker = (make_layer(capacity=JOBS) for _ in range(2))
    await send_jobs(source, range(JOBS))
    await work_until_ahead(worker)
    transport = source._hub.transport
    purge_there = transport.purge

    async def purge() -> None:
        await purge_there()
        await eventually(lambda: not at_hand(worker))

    monkeypatch.setattr(transport, "purge", purge)
    await source.flush()
    await send_jobs(source, range(JOBS, JOBS + 1))
    assert await take(worker, 1) == [JOBS]


def at_hand(layer: RabbitMQChannelLayer) -> int:
    transport = layer._hub.transport
    assert isinstance(transport, RabbitMQTransport)
    return sum(len(consumer.held) for consumer in transport._workers._consuming._consumers.values())


async def test_a_receiver_that_is_cancelled_leaves_nothing_behind(make_layer: MakeLayer) -> None:
    source, worker = (make_layer(capacity=JOBS) for _ in range(2))
    await send_jobs(source, range(JOBS))
    got = await work_until_ahead(worker)
    got += await take(worker, held(worker))
    receiving: asyncio.Task[dict[str, Any]] = asyncio.create_task(worker.receive("jobs"))
    await asyncio.sleep(0)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    # What goes back while another process takes is overtaken by what that has.
    assert sorted(got + await take(source, JOBS - len(got))) == list(range(JOBS))


async def test_a_killed_worker_loses_no_more_than_is_claimed_ahead(make_layer: MakeLayer, url: str) -> None:
    """What it has at hand and did not claim is the broker's still."""
    count = 2_000
    here = make_layer(capacity=2 * count)
    await send_jobs(here, range(count))
    await assert_killed_worker_loses_little(
        here, count=count, done_before=300, backend=BACKEND, option="host", place=url
    )
