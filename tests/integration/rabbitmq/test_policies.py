"""Policies, definitions and permissions that an operator changes while layers are at work."""

import asyncio
import json
from functools import partial

import pytest
from channels.exceptions import ChannelFull

from channels_trunk.exceptions import ChannelLayerError
from channels_trunk.testing import eventually
from channels_trunk.testing.commands import in_thread
from tests.integration.rabbitmq.conftest import HELLO, MakeLayer, is_ok, works
from tests.plugins.servers import RabbitServer, on_rabbitmq
from tools.server_table import NEWEST_RABBITMQ, RABBITMQ

COUNT = 50
pytestmark = on_rabbitmq(RABBITMQ, NEWEST_RABBITMQ)


def vhost(url: str) -> str:
    return url.rpartition("/")[2]


async def policy(broker: RabbitServer, url: str, definition: dict[str, object], *, pattern: str = ".*") -> None:
    """Set the one policy of this vhost, for all queues."""
    arguments = ["--vhost", vhost(url), "--apply-to", "queues", "of-the-operator", pattern, json.dumps(definition)]
    await in_thread(partial(broker.ctl, "set_policy", *arguments))


async def no_policy(broker: RabbitServer, url: str) -> None:
    await in_thread(partial(broker.ctl, "clear_policy", "--vhost", vhost(url), "of-the-operator"))


@pytest.mark.parametrize("overflow", ["reject-publish", "drop-head"])
async def test_a_policy_that_limits_the_length_is_a_full_channel(
    overflow: str, make_layer: MakeLayer, broker: RabbitServer, url: str
) -> None:
    """Whatever it says of the rest: the queues say for themselves that it is refused. What was taken is delivered."""
    here, there = make_layer(), make_layer()
    await works(here, there)
    await policy(broker, url, {"max-length": 5, "overflow": overflow})
    taken, refused = [], 0
    for number in range(COUNT):
        try:
            await here.send("jobs", {"type": "n", "n": number})
        except ChannelFull:
            refused += 1
        else:
            taken.append(number)
    assert refused
    await no_policy(broker, url)
    async with asyncio.timeout(60):
        assert [(await there.receive("jobs"))["n"] for _ in taken] == taken
    await works(here, there)


async def test_a_policy_with_a_time_to_live_and_one_for_dead_letters(
    make_layer: MakeLayer, broker: RabbitServer, url: str
) -> None:
    """Messages live as long as the shorter of the two says; what goes to other queues harms nobody."""
    here, there = make_layer(), make_layer()
    await works(here, there)
    await policy(
        broker, url, {"message-ttl": 100, "dead-letter-exchange": "", "dead-letter-routing-key": "asgi.nobody"}
    )
    await here.send("jobs", {"type": "gone"})

    async def is_gone() -> bool:
        rows = await in_thread(
            partial(broker.ctl, "list_queues", "--vhost", vhost(url), "--no-table-headers", "name", "messages")
        )
        return "asgi.channel.jobs\t0" in rows

    await eventually(is_gone, within=60)
    await works(here, there)  # whoever waits gets what comes
    await no_policy(broker, url)
    await here.send("jobs", HELLO)
    assert await asyncio.wait_for(there.receive("jobs"), 60) == HELLO


async def test_definitions_that_are_exported_and_imported(
    make_layer: MakeLayer, broker: RabbitServer, url: str
) -> None:
    """As before an upgrade, or by a tool that keeps brokers in order."""
    here, there = make_layer(), make_layer()
    await works(here, there)
    place = str(broker.folder / "definitions.json")
    await in_thread(partial(broker.ctl, "export_definitions", place))
    await works(here, there)
    await in_thread(partial(broker.ctl, "import_definitions", place))
    await works(here, there)
    assert here.stats().gaps_total == there.stats().gaps_total == 0
    assert here.stats().reconnects_total == there.stats().reconnects_total == 0


async def test_permissions_that_are_taken_away_and_given_back(
    make_layer: MakeLayer, broker: RabbitServer, url: str
) -> None:
    here, there = make_layer(send_timeout=2), make_layer(send_timeout=2)
    await works(here, there)
    user = url.partition("//")[2].partition(":")[0]
    await in_thread(partial(broker.ctl, "clear_permissions", "--vhost", vhost(url), user))

    async def is_refused() -> bool:
        try:
            await here.send("jobs-of-another-name", HELLO)
        except ChannelLayerError as error:
            return "permissions" in str(error)
        return False

    await eventually(is_refused, within=60)
    await in_thread(partial(broker.ctl, "set_permissions", "--vhost", vhost(url), user, ".*", ".*", ".*"))
    await is_ok(here, there, within=60)

    async def goes_on() -> bool:
        try:
            await works(here, there)
        except (ChannelLayerError, TimeoutError):
            return False
        return True

    await eventually(goes_on, within=60)


async def test_queues_that_somebody_purges(make_layer: MakeLayer, broker: RabbitServer, url: str) -> None:
    """By rabbitmqctl, or in the management plugin: what waits there is gone, and there is room again."""
    here, there = make_layer(capacity=5), make_layer(capacity=5)
    await works(here, there)
    for number in range(5):
        await here.send("jobs", {"type": "n", "n": number})
    names = await in_thread(
        partial(broker.ctl, "list_queues", "--vhost", vhost(url), "--no-table-headers", "name", "state")
    )
    for name in (line.split("\t")[0] for line in names.splitlines()):
        if ".channel." in name or ".node." in name:
            await in_thread(partial(broker.ctl, "purge_queue", "--vhost", vhost(url), name))

    async def has_room() -> bool:
        try:
            await here.send("jobs", {"type": "n", "n": 5})
        except ChannelFull:
            return False
        return True

    await eventually(has_room, within=60)
    assert (await asyncio.wait_for(there.receive("jobs"), 60))["n"] == 5
    await works(here, there)
