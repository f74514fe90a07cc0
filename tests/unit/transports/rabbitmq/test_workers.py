"""When the queue of a normal channel is declared again: by whoever uses it next, once its time is over."""

from types import SimpleNamespace
from typing import Any

from channels_trunk.clock import Clock
from channels_trunk.transports.rabbitmq.topology import QueueSpec
from channels_trunk.transports.rabbitmq.workers import RENEWALS, Workers
from tests.unit.transports.rabbitmq.test_wire import TOPOLOGY


class Broker:
    """Counts what is asked of it, and has a clock that stands."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.declared: list[str] = []
        self.noted: list[str] = []

    async def declare(self, spec: QueueSpec) -> bool:
        self.declared.append(spec.name)
        return True

    async def note_channels(self, channels: list[str]) -> None:
        self.noted += channels

    def workers(self) -> Workers:
        link: Any = SimpleNamespace(
            context=SimpleNamespace(clock=Clock(lambda: self.now, lambda: self.now), capacity_of=lambda _: 100),
            settings=SimpleNamespace(topology=TOPOLOGY),
            declare=self.declare,
        )
        ledger: Any = self
        return Workers(link, ledger, complained=set())


async def test_a_queue_is_renewed_by_who_uses_it_when_its_time_is_over() -> None:
    broker = Broker()
    workers = broker.workers()
    assert not workers.has_declared("jobs")
    for _ in range(2):
        await workers.declare(["jobs"])
    assert broker.declared == ["asgi.channel.jobs"]
    broker.now += TOPOLOGY.queue_expires / RENEWALS - 1
    workers.look_after()
    assert workers.has_declared("jobs")
    broker.now += 1
    workers.look_after()
    assert not workers.has_declared("jobs")
    await workers.declare(["jobs"])
    assert broker.declared == ["asgi.channel.jobs"] * 2
    assert broker.noted == ["jobs"] * 2
