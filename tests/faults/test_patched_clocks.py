"""Clocks that tests replace or move stop no wait of the layer's, and no message is lost by them."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import time_machine
from asgiref.sync import async_to_sync
from freezegun import freeze_time

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.layers import PostgresChannelLayer, RabbitMQChannelLayer, SQLiteChannelLayer
from channels_trunk.layers.base import TrunkChannelLayer
from channels_trunk.testing.transports import LoopbackServer
from tests.plugins.servers import RabbitServer

from .conftest import MakeLayer

FROZEN: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "freezegun": lambda: freeze_time("2020-02-29"),
    "freezegun-ticking": lambda: freeze_time("2020-02-29", tick=True),
    "time-machine": lambda: time_machine.travel(0, tick=False),
}

# A server may have to be started first.
pytestmark = pytest.mark.timeout(240)

NewLayer = Callable[[], TrunkChannelLayer]


@pytest.fixture(params=["sqlite", "postgres", "rabbitmq"])
def new_layer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewLayer]:
    """Makes layers that reach each other; they are closed after the test."""
    layers: list[TrunkChannelLayer] = []
    vhosts: list[str] = []

    def new() -> TrunkChannelLayer:
        if request.param == "sqlite":
            layers.append(SQLiteChannelLayer(path=tmp_path / "layer.sqlite3"))
        elif request.param == "postgres":
            layers.append(PostgresChannelLayer(dsn=request.getfixturevalue("postgres_database")))
        else:
            rabbit: RabbitServer = request.getfixturevalue("rabbit")
            if not vhosts:
                vhosts.append(rabbit.fresh_vhost())
            layers.append(RabbitMQChannelLayer(host=vhosts[0]))
        return layers[-1]

    yield new
    for layer in layers:
        layer.sync.close()


@pytest.mark.parametrize("frozen", FROZEN.values(), ids=FROZEN)
def test_messages_arrive_while_a_clock_stands_still(
    new_layer: NewLayer, frozen: Callable[[], AbstractContextManager[Any]]
) -> None:
    sender, reader = new_layer(), new_layer()
    with frozen():
        channel = reader.sync.new_channel()
        reader.sync.group_add("room", channel)
        sender.sync.group_send("room", {"type": "sync"})
        async_to_sync(sender.group_send)("room", {"type": "async_to_sync"})
        got = [reader.sync.receive(channel, timeout=20)["type"] for _ in range(2)]
    assert got == ["sync", "async_to_sync"]


def test_a_clock_that_jumps_makes_nothing_expire(new_layer: NewLayer) -> None:
    sender, reader = new_layer(), new_layer()
    channel = reader.sync.new_channel()
    sender.sync.send(channel, {"type": "before"})
    with freeze_time("2020-02-29"):
        assert reader.sync.receive(channel, timeout=20) == {"type": "before"}
        sender.sync.send(channel, {"type": "within"})
    assert reader.sync.receive(channel, timeout=20) == {"type": "within"}


def test_send_timeout_passes_while_a_clock_stands_still(make_sync_layer: MakeLayer, server: LoopbackServer) -> None:
    layer = make_sync_layer(send_timeout=0.3)
    layer.sync.group_send("room", {"type": "opened"})
    with freeze_time("2020-02-29"):
        server.hanging = True
        with pytest.raises(TransportUnavailable):
            layer.sync.group_send("room", {"type": "late"})


def test_a_layer_first_imported_while_a_clock_stands_still(tmp_path: Path) -> None:
    """As in a test module whose decorator freezes time for imports within the test, too."""
    program = (
        "from django.conf import settings; settings.configure()\n"
        "from freezegun import freeze_time\n"
        "with freeze_time('2020-02-29'):\n"
        "    from channels_trunk.clock import SYSTEM_CLOCK\n"
        "    from channels_trunk.layers import SQLiteChannelLayer\n"
        f"    layer = SQLiteChannelLayer(path={str(tmp_path / 'layer.sqlite3')!r})\n"
        "    channel = layer.sync.new_channel()\n"
        "    try:\n"
        "        layer.sync.receive(channel, timeout=0.01)\n"
        "    except TimeoutError:\n"
        "        print('passed', SYSTEM_CLOCK.monotonic() < SYSTEM_CLOCK.monotonic())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout == "passed True\n"
