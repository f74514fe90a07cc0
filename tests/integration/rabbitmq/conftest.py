"""Layers on a RabbitMQ that the tests of this folder may stop, block and empty; and layers behind a proxy."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.hub import claims, stock
from channels_trunk.layers import RabbitMQChannelLayer
from channels_trunk.testing import eventually
from channels_trunk.testing.proxy import Proxy
from channels_trunk.transports.rabbitmq import consuming
from tests.plugins.servers import RabbitServer, SharedRabbit
from tools.server_table import Program

MakeLayer = Callable[..., RabbitMQChannelLayer]
ProxyFactory = Callable[[str, int], Proxy]
HELLO = {"type": "hello"}


@pytest.fixture
def broker(shared_rabbit: SharedRabbit, rabbitmq_program: Program) -> RabbitServer:
    """A RabbitMQ for tests that do to it what they like, and leave it running."""
    return shared_rabbit("broker", rabbitmq_program)


@pytest.fixture
def url(broker: RabbitServer) -> str:
    """An empty vhost of it."""
    return broker.fresh_vhost()


@pytest.fixture
async def make_layer(url: str) -> AsyncIterator[MakeLayer]:
    """Layers on that vhost; they are closed after the test, whatever state it left them in."""
    layers: list[RabbitMQChannelLayer] = []

    def make(**config: Any) -> RabbitMQChannelLayer:
        layers.append(RabbitMQChannelLayer(**{"host": url, **config}))
        return layers[-1]

    yield make
    for layer in layers:
        async with asyncio.timeout(60):
            await layer.close()


def through(proxy: Proxy, url: str, query: str = "") -> str:
    """The same address by way of the proxy."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{proxy.host}:{proxy.port}", query=query).geturl()


async def works(one: RabbitMQChannelLayer, other: RabbitMQChannelLayer) -> None:
    """Both reach each other, directly and by groups, and have a queue in common."""
    for sender, reader in ((one, other), (other, one)):
        channel = await reader.new_channel()
        await reader.group_add("works", channel)
        await sender.send(channel, HELLO)
        await sender.group_send("works", HELLO)
        async with asyncio.timeout(60):
            assert [await reader.receive(channel) for _ in range(2)] == [HELLO, HELLO]
        await reader.group_discard("works", channel)
        await sender.send("jobs", HELLO)
        async with asyncio.timeout(60):
            assert await reader.receive("jobs") == HELLO


def nothing_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let receivers be as slow as the machine's load makes them: what they have at hand, or claimed, they keep."""
    for module, name in (
        (consuming, "_HOLD"),
        (consuming, "_HOLD_MANY"),
        (claims, "BACK_AFTER"),
        (stock, "BACK_AFTER"),
    ):
        monkeypatch.setattr(module, name, 60)


async def unreached(layer: RabbitMQChannelLayer, why: str) -> str:
    """What a sender is told, which matches `why`.

    On a loaded machine the first one's time may be over before the first attempt to connect is.
    """

    async def told() -> str:
        with pytest.raises(TransportUnavailable) as caught:
            await layer.send("jobs", HELLO)
        return str(caught.value) if re.search(why, str(caught.value)) else ""

    return await eventually(told, within=20, what=why)


async def is_ok(*layers: RabbitMQChannelLayer, within: float = 20) -> None:
    """Wait until the layers are connected."""
    await eventually(lambda: all(layer.health().state == "ok" for layer in layers), within=within)


async def is_away(*layers: RabbitMQChannelLayer, within: float = 20) -> None:
    """Wait until the layers know that they are not."""
    await eventually(lambda: all(layer.health().state != "ok" for layer in layers), within=within)
