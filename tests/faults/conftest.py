"""Layers over a network engine inside this process, and the faults of both."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import pytest

from channels_trunk.testing.starting import FaultyStartingTransport, StartingLoopbackTransport
from channels_trunk.testing.transports import (
    FaultyTransport,
    LoopbackChannelLayer,
    LoopbackServer,
    LoopbackTransport,
    loopback_server,
)
from channels_trunk.transports.base import Transport


class FaultyLayer(LoopbackChannelLayer):
    """A loopback layer with `faults` in its transport."""

    def _make_transport(self, values: dict[str, Any]) -> Transport:
        return FaultyTransport(LoopbackTransport(values["prefix"]))

    @property
    def faults(self) -> FaultyTransport:
        return cast(FaultyTransport, self._hub.transport)


class StartingLayer(FaultyLayer):
    """The same, where callers' threads start what is published."""

    def _make_transport(self, values: dict[str, Any]) -> Transport:
        return FaultyStartingTransport(StartingLoopbackTransport(values["prefix"]))


MakeLayer = Callable[..., FaultyLayer]


@pytest.fixture
def prefix() -> str:
    return f"faults-{uuid.uuid4().hex}"


@pytest.fixture
def server(prefix: str) -> Iterator[LoopbackServer]:
    server = loopback_server(prefix)
    yield server
    server.hanging = False


@pytest.fixture(params=[FaultyLayer, StartingLayer], ids=["pump", "start"])
def layer_class(request: pytest.FixtureRequest) -> type[FaultyLayer]:
    """Who brings what is published on its way: the hub's pump, or the caller's thread."""
    chosen: type[FaultyLayer] = request.param
    return chosen


@pytest.fixture
async def make_layer(prefix: str, server: LoopbackServer, layer_class: type[FaultyLayer]) -> AsyncIterator[MakeLayer]:
    """Layers that share one server; they are closed after the test, whatever state it left them in."""
    layers: list[FaultyLayer] = []

    def make(**config: Any) -> FaultyLayer:
        layers.append(layer_class(**{"prefix": prefix, "send_timeout": 5.0, **config}))
        return layers[-1]

    yield make
    for layer in layers:
        layer.faults.heal()
        async with asyncio.timeout(20):
            await layer.close()


@pytest.fixture
def make_sync_layer(prefix: str, server: LoopbackServer, layer_class: type[FaultyLayer]) -> Iterator[MakeLayer]:
    """As make_layer, for tests without an event loop."""
    layers: list[FaultyLayer] = []

    def make(**config: Any) -> FaultyLayer:
        layers.append(layer_class(**{"prefix": prefix, "send_timeout": 5.0, **config}))
        return layers[-1]

    yield make
    for layer in layers:
        layer.faults.heal()
        layer.sync.close()
