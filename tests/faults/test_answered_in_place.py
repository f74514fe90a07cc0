"""Who sends what piled up behind a batch whose confirmation comes to the loop that sent it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

import pytest

from channels_trunk.envelope import Envelope
from channels_trunk.layers.base import TrunkChannelLayer
from channels_trunk.testing import eventually
from channels_trunk.testing.starting import StartingLoopbackTransport
from channels_trunk.testing.transports import LoopbackServer
from channels_trunk.transports.base import Transport

FIRST = {"type": "first"}


class AnsweringInPlace(StartingLoopbackTransport):
    """Answers when it is told to, in the thread that tells it; and notes which threads send."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.senders: list[int] = []
        self.answers: list[Callable[[], None]] = []

    def start(self, batch: Sequence[Envelope], done: Callable[[Sequence[int] | None], None]) -> bool:
        self.senders.append(threading.get_ident())
        line = self._reached()
        assert line is not None
        refused, _ = self.server.accept(batch, line.context)
        self.answers.append(lambda: done(refused))
        return True

    async def publish(self, batch: Sequence[Envelope]) -> Sequence[int]:
        self.senders.append(threading.get_ident())
        return await super().publish(batch)

    def answer(self) -> None:
        """Confirm the oldest batch, in this thread."""
        self.answers.pop(0)()


class AnsweredLayer(TrunkChannelLayer):
    def _make_transport(self, values: dict[str, Any]) -> Transport:
        return AnsweringInPlace(values["prefix"])

    @property
    def transport(self) -> AnsweringInPlace:
        return cast(AnsweringInPlace, self._hub.transport)


@pytest.fixture
async def layers(prefix: str, server: LoopbackServer) -> AsyncIterator[list[AnsweredLayer]]:
    made = [AnsweredLayer(prefix=prefix, send_timeout=5.0) for _ in range(2)]
    yield made
    for layer in made:
        await layer.close()


async def begun(here: AnsweredLayer, there: AnsweredLayer) -> "tuple[str, asyncio.Task[None]]":
    """A channel, and a send() to it that is on its way and not confirmed."""
    channel = await there.new_channel()
    await here.new_channel()
    sending = asyncio.create_task(here.send(channel, FIRST))
    await eventually(lambda: len(here.transport.answers) == 1)
    return channel, sending


async def test_loop_sends_what_its_own_tasks_have(layers: list[AnsweredLayer]) -> None:
    """Without a hop to the layer's thread."""
    here, there = layers
    channel, first = await begun(here, there)
    behind = [asyncio.create_task(here.send(channel, {"type": "n", "n": n})) for n in range(5)]
    await eventually(lambda: len(here._hub.publisher) == 5)
    here.transport.senders.clear()
    here.transport.answer()
    await eventually(lambda: len(here.transport.senders) == 1)
    assert here.transport.senders == [threading.get_ident()]
    here.transport.answer()
    await asyncio.gather(first, *behind)
    assert [(await there.receive(channel)).get("n") for _ in range(6)] == [None, 0, 1, 2, 3, 4]


async def test_what_a_thread_waits_for_is_sent_by_the_layer(layers: list[AnsweredLayer]) -> None:
    """A loop may block as soon as it has taken the answer, and nobody but its own tasks is to depend on that."""
    here, there = layers
    channel, first = await begun(here, there)
    behind = asyncio.create_task(here.send(channel, {"type": "behind"}))
    thread = threading.Thread(target=here.sync.send, args=(channel, {"type": "last"}), daemon=True)
    await eventually(lambda: len(here._hub.publisher) == 1)
    thread.start()
    await eventually(lambda: len(here._hub.publisher) == 2)
    here.transport.senders.clear()
    here.transport.answer()
    # The loop stands still: it is the layer's thread that sends.
    thread.join(4)
    assert not thread.is_alive()
    assert len(here.transport.senders) == 1
    assert here.transport.senders != [threading.get_ident()]
    await asyncio.gather(first, behind)
    assert [(await there.receive(channel))["type"] for _ in range(3)] == ["first", "behind", "last"]
