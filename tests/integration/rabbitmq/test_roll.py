"""Who is alive: a call of the roll names each node that is connected, every time."""

import asyncio

from tests.integration.rabbitmq.conftest import HELLO, MakeLayer
from tests.plugins.servers.rabbitmq import on_every_rabbitmq

NODES, ROUNDS = 6, 20
AT_ONCE = (20, *[1] * 20)


@on_every_rabbitmq
async def test_every_roll_names_every_node(make_layer: MakeLayer) -> None:
    """An answer that comes behind the barrier is a node that is taken for dead: joins and flushes leave it out."""
    layers = [make_layer() for _ in range(NODES)]
    for layer in layers:
        await layer.group_send("nobody", HELLO)
    nodes = {layer.stats().node for layer in layers}
    hub = layers[0]._hub

    found: set[frozenset[str]] = set()

    async def call() -> None:
        for count in AT_ONCE * ROUNDS:
            found.update(await asyncio.gather(*(hub.transport.peers() for _ in range(count))))

    await hub.run(call(), asyncio.get_running_loop().create_future())
    assert found == {frozenset(nodes - {hub.node})}
