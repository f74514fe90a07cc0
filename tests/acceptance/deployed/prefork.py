"""What Celery's prefork pool does: the parent uses the layer, forks, and all of them use it at once.

Prints the channel it listens on, then one line for each message it received there. Some processes send with
`async_to_sync`, some with `layer.sync`; the parent receives before, while and after the children work.
"""

import asyncio
import multiprocessing
import os

import django
from asgiref.sync import async_to_sync

TASKS = 40


def work(number: int) -> int:
    """Be one task in a pool process: ask the layer for a channel of our own, and tell the group."""
    from channels.layers import get_channel_layer

    layer = get_channel_layer()
    own = layer.sync.new_channel()
    layer.sync.group_add("party", own)
    send = async_to_sync(layer.group_send) if number % 2 else layer.sync.group_send
    send("party", {"type": "party.said", "number": number, "pid": os.getpid()})
    # The process's own message comes back to it, among those of the others.
    while layer.sync.receive(own, timeout=20)["number"] != number:
        pass
    layer.sync.group_discard("party", own)
    return os.getpid()


async def collect(channel: str, *, count: int) -> list[int]:
    """Receive so many messages; return their numbers."""
    from channels.layers import get_channel_layer

    layer = get_channel_layer()
    async with asyncio.timeout(30):
        return [(await layer.receive(channel))["number"] for _ in range(count)]


def main() -> None:
    """Use the layer, fork a pool, use it again."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.acceptance.deployed.settings"
    django.setup()
    from channels.layers import get_channel_layer

    layer = get_channel_layer()
    channel = async_to_sync(layer.new_channel)()
    layer.sync.group_add("party", channel)
    async_to_sync(layer.group_send)("party", {"type": "party.said", "number": -1})
    print("before:", asyncio.run(collect(channel, count=1)))
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pending = pool.map_async(work, range(TASKS), chunksize=1)
        print("while:", sorted(asyncio.run(collect(channel, count=TASKS))) == list(range(TASKS)))
        pids = set(pending.get(30))
        pool.close()
        pool.join()
    print("processes:", len(pids), "ours among them:", os.getpid() in pids)
    layer.sync.group_send("party", {"type": "party.said", "number": -2})
    print("after:", [layer.sync.receive(channel, timeout=20)["number"]])


if __name__ == "__main__":
    main()
