"""More groups than anybody has sockets: joined at once, and left."""

import asyncio

from channels_trunk.testing import eventually
from channels_trunk.testing.commands import in_thread
from tests.integration.rabbitmq.conftest import HELLO, MakeLayer
from tests.plugins.servers import RabbitServer, on_every_rabbitmq

GROUPS = 10_000


@on_every_rabbitmq
async def test_ten_thousand_groups_joined_at_once_and_left(
    make_layer: MakeLayer, broker: RabbitServer, url: str
) -> None:
    here, there = make_layer(), make_layer(send_timeout=200)
    channel = await there.new_channel()
    groups = [f"group.{number}" for number in range(GROUPS)]
    await asyncio.gather(*(there.group_add(group, channel) for group in groups))
    looked_at = [*groups[:: GROUPS // 20], groups[-1]]
    for group in looked_at:
        await here.group_send(group, {"type": "to", "group": group})
    async with asyncio.timeout(60):
        received = [(await there.receive(channel))["group"] for _ in looked_at]
    assert received == looked_at
    await asyncio.gather(*(there.group_discard(group, channel) for group in groups))
    vhost = url.rpartition("/")[2]

    def bindings() -> int:
        there._hub.context.sink.maintain_soon()
        listed = broker.ctl("list_bindings", "--vhost", vhost, "--no-table-headers", "source_name", "routing_key")
        return sum(line.startswith("asgi.groups\tgroup.") for line in listed.splitlines())

    async def none_is_left() -> bool:
        return bool(await in_thread(bindings) == 0)

    await eventually(none_is_left, within=200)
    await here.group_send(groups[0], HELLO)
    await eventually(lambda: here.health().state == "ok")
