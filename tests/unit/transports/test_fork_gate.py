"""A fork and a connection that is being made wait for each other."""

import asyncio
import threading

import pytest

from channels_trunk.testing.waiting import eventually
from channels_trunk.transports import fork_gate
from channels_trunk.transports.fork_gate import ForkGate


async def test_a_fork_waits_for_who_is_inside() -> None:
    gate, inside = ForkGate(), asyncio.Event()

    async def connect() -> None:
        async with gate.passing():
            inside.set()
            await eventually(lambda: gate._forking)

    connecting = asyncio.create_task(connect())
    await inside.wait()
    forking = threading.Thread(target=gate.close)
    forking.start()
    await connecting
    forking.join()
    assert gate._inside == 0


async def test_nobody_enters_during_a_fork() -> None:
    gate, entered = ForkGate(), asyncio.Event()

    async def connect() -> None:
        async with gate.passing():
            entered.set()

    gate.close()
    connecting = asyncio.create_task(connect())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not entered.is_set()
    gate.open()
    await connecting


async def test_of_two_forks_the_first_that_is_over_lets_nobody_in() -> None:
    gate = ForkGate()
    gate.close()
    gate.close()
    gate.open()
    assert not gate._enter()
    gate.open()
    assert gate._enter()


async def test_a_fork_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_gate, "_PATIENCE", 0.01)
    gate = ForkGate()
    async with gate.passing():
        gate.close()
    gate.open()


async def test_the_child_begins_anew() -> None:
    gate = ForkGate()
    async with gate.passing():
        gate.reset()
        assert gate._inside == 0
        gate._inside = 1  # what passing() takes off at its end is of the parent's
    async with gate.passing():
        assert gate._inside == 1
