"""A layer that survives every cut, and layers that have one fault each, which the cuts find."""

import asyncio
import sys
from collections.abc import Callable, Iterator

import pytest

from channels_trunk.testing import Features, LayerUnderTest
from channels_trunk.testing.cuts import CutSuite
from channels_trunk.testing.cuts.choice import Choice
from channels_trunk.testing.cuts.run import Runner, faulty_runs
from channels_trunk.testing.layer import Layer
from channels_trunk.testing.ports import LOOPBACK
from tests.cuts.small_broker import Broker, Request, SmallLayer

FEATURES = Features.of_another_package(flush=False)

pytestmark = pytest.mark.timeout(0)


class Repeating(SmallLayer):
    """Sends again what had no answer, and the broker cannot know it again."""

    def _again(self) -> None:
        self._requests = {next(self._numbers): request for request in self._requests.values()}


class Forgetful(SmallLayer):
    """Does not ask for what was on its way to it, and tells nobody."""

    def _greeting(self) -> tuple[str, int]:
        return self._node, sys.maxsize


class Deaf(SmallLayer):
    """Its broker forgets it with the connection, and it does not join its groups again."""

    def _again(self) -> None:
        nobody = asyncio.get_running_loop().create_future()
        self._requests = {next(self._numbers): Request(("leave", self._node), nobody), **self._requests}


class Careless(SmallLayer):
    """Does not see to it that it has left a group."""

    async def group_discard(self, group: str, channel: str) -> None:
        self._write(next(self._numbers), "group_discard", group, channel)
        await self._ask("group_send", "nobody", {})  # a round trip


class Hopeful(SmallLayer):
    """Takes for done what had no answer."""

    def _again(self) -> None:
        for number in tuple(self._requests):
            self._answered(number, None)


@pytest.fixture
def broker() -> Iterator[Broker]:
    made = Broker()
    yield made
    made.close()


def at(layer: type[SmallLayer]) -> Callable[[str, int], LayerUnderTest]:
    backend = f"{layer.__module__}.{layer.__qualname__}"
    # Nobody waits long for what a saboteur has lost.
    patience = 1.0 if layer is SmallLayer else 0.1
    return lambda _, port: LayerUnderTest(backend=backend, config={"port": port}, patience=patience)


class TestSmallLayer(CutSuite):
    features = FEATURES
    chosen = 60

    @pytest.fixture
    def server(self, broker: Broker) -> tuple[str, int]:
        return LOOPBACK, broker.port

    @pytest.fixture
    def layer_at(self) -> Callable[[str, int], LayerUnderTest]:
        return at(SmallLayer)


async def upkeep(_: Layer) -> None:
    pass


@pytest.mark.parametrize(
    ("saboteur", "scenario", "word"),
    [
        (Repeating, "sending", "twice"),
        (Repeating, "working", "lost, and nobody was told"),
        (Forgetful, "hearing", "lost, and nobody was told"),
        (Deaf, "hearing", "lost, and nobody was told"),
        (Careless, "hearing", "not meant for it"),
        (Hopeful, "sending", "lost, and nobody was told"),
    ],
)
def test_it_is_found(saboteur: type[SmallLayer], scenario: str, word: str, broker: Broker) -> None:
    with asyncio.Runner() as loop:
        runner = Runner((LOOPBACK, broker.port), at(saboteur), features=FEATURES, upkeep=upkeep)
        found = loop.run(faulty_runs(runner, scenario, Choice(text="all", seed="any"), most=1))
    assert any(fault.startswith(word) for outcome in found for fault in outcome.faults)
    assert all(outcome.cut_during for outcome in found)
