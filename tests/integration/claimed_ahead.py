"""What the tests of jobs that are claimed ahead share, whichever the engine."""

import asyncio
import sys

import pytest

from channels_trunk.hub import stock
from channels_trunk.layers.base import TrunkChannelLayer

__all__ = ["assert_killed_worker_loses_little", "claims_rest", "held", "take", "work_until_ahead"]

QUICK_WORKER = """
import asyncio, sys
from django.utils.module_loading import import_string

async def work():
    layer = import_string(sys.argv[1])(**{sys.argv[2]: sys.argv[3]}, capacity=4000)
    while True:
        print((await layer.receive("jobs"))["number"], flush=True)

asyncio.run(work())
"""


def held(layer: TrunkChannelLayer) -> int:
    """How many jobs lie in this process."""
    box = layer._hub.router.boxes.get("jobs")
    return 0 if box is None else len(box.messages or ())


def claims_rest(layer: TrunkChannelLayer) -> bool:
    """Whether nothing is being claimed or given back: a claim goes on when its receiver was cancelled."""
    claims = layer._hub.claims
    task = claims._work_task
    return not (claims._pending or claims._restoring) and (task is None or task.done())


async def work_until_ahead(layer: TrunkChannelLayer) -> list[int]:
    """Receive until the node holds jobs that nobody here has asked for, and stop there, as with a long job."""
    got: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        # A receiver on a loaded machine is quick, too.
        patch.setattr(stock, "_WINDOW", 60)
        while held(layer) < 4:
            got += await take(layer, 1)
    return got


async def take(layer: TrunkChannelLayer, count: int, channel: str = "jobs") -> list[int]:
    """The numbers of the next jobs."""
    async with asyncio.timeout(20):
        return [(await layer.receive(channel))["number"] for _ in range(count)]


async def assert_killed_worker_loses_little(
    here: TrunkChannelLayer, *, count: int, done_before: int, backend: str, option: str, place: str
) -> None:
    """Of so many jobs that wait, another process does some and is killed; `option` names the engine to its layer."""
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", QUICK_WORKER, backend, option, place), stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    done = [int(await worker.stdout.readline()) for _ in range(done_before)]
    worker.kill()
    # A line that was cut off is of a job that was handed over: one more that may be lost.
    done += [int(line) for line in (await worker.stdout.read()).splitlines(keepends=True) if line.endswith(b"\n")]
    await worker.wait()
    await here.send("jobs", {"type": "job", "number": -1})
    while (number := (await take(here, 1))[0]) != -1:
        done.append(number)
    assert len(done) == len(set(done))
    lost = set(range(count)) - set(done)
    assert len(lost) <= stock._MOST + 1, f"{len(lost)} of {count} jobs were lost"
