"""Asks the worker to double numbers, from a process that is no server; prints what came back."""

import asyncio
import os
import sys

import django

NUMBERS = range(50)


async def ask() -> tuple[list[int], set[int]]:
    """Send all questions, then read all answers."""
    from channels.layers import get_channel_layer

    layer = get_channel_layer()
    own = await layer.new_channel()
    for number in NUMBERS:
        await layer.send("doubler", {"type": "double", "number": number, "reply_to": own})
    async with asyncio.timeout(30):
        answers = [await layer.receive(own) for _ in NUMBERS]
    await layer.close()
    return sorted(answer["number"] for answer in answers), {answer["pid"] for answer in answers}


def main() -> int:
    """Ask, and print."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.acceptance.deployed.settings"
    django.setup()
    numbers, pids = asyncio.run(ask())
    print("each once:", numbers == [2 * number for number in NUMBERS])
    print("answered by:", *pids)
    return 0


if __name__ == "__main__":
    sys.exit(main())
