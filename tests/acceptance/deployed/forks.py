"""A bare os.fork while a loop is running and somebody waits in receive: the child starts afresh, the parent goes on."""

import asyncio
import os
import sys
from typing import Any

import django


async def child_life(layer: Any, parents_channel: str) -> None:
    """Be a whole asyncio program in the child."""
    own = await layer.new_channel()
    await layer.group_add("family", own)
    await layer.send(own, {"type": "note", "of": "myself"})
    assert (await layer.receive(own))["of"] == "myself"
    await layer.send(parents_channel, {"type": "note", "of": "child", "channel": own})
    async with asyncio.timeout(20):
        assert (await layer.receive(own))["of"] == "parent"
    await layer.group_send("family", {"type": "note", "of": "child again"})
    await layer.close()


async def parent_life(layer: Any) -> Any:
    """Fork with a receiver waiting; talk to the child. In the child: return the parent's channel."""
    own = await layer.new_channel()
    await layer.group_add("family", own)
    waiting = asyncio.create_task(layer.receive(own))
    await asyncio.sleep(0)  # it waits now
    child = os.fork()
    if child == 0:
        return own
    async with asyncio.timeout(20):
        first = await waiting
        await layer.send(first["channel"], {"type": "note", "of": "parent"})
        second = await layer.receive(own)
        await asyncio.to_thread(os.waitpid, child, 0)
    print("heard:", first["of"], "/", second["of"])
    return None


def main() -> int:
    """Run the parent; in the child, run the child on a loop of its own, as a daemon would."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.acceptance.deployed.settings"
    django.setup()
    from channels.layers import get_channel_layer

    layer = get_channel_layer()
    runner = asyncio.Runner()
    parents_channel = runner.run(parent_life(layer))
    if parents_channel:  # the child; the parent's loop is not ours to close
        asyncio.set_event_loop(None)
        asyncio.run(child_life(layer, parents_channel))
        os._exit(0)
    runner.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
