"""Four processes under load while their broker is troubled: what was sent against what was received.

CHANNELS_TRUNK_LOAD_SECONDS sets how long; 60 for the whole truth.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from channels_trunk.testing.commands import in_thread
from tests.integration.rabbitmq.load import GROUP
from tests.plugins.servers import RabbitClusterFactory, RabbitServer

SECONDS = float(os.environ.get("CHANNELS_TRUNK_LOAD_SECONDS", "12"))
PROCESSES = 4
ROOT = Path(__file__).parents[3]
Result = dict[str, Any]


async def loaded(
    config: dict[str, Any], trouble: Callable[[], Awaitable[None]], *, seconds: float = SECONDS
) -> list[Result]:
    """Run the processes, and the trouble beside them; return what they say at their end."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "DJANGO_SETTINGS_MODULE": "",
    }
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.rabbitmq.load", f"p{number}", str(PROCESSES), str(seconds)),
            json.dumps(config),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
            limit=1 << 26,
        )
        for number in range(PROCESSES)
    ]
    try:
        channels = [(await _line(process)) for process in processes]
        for process in processes:
            await _tell(process, json.dumps(channels))
        await trouble()
        for word in ("sent", "connected"):
            assert [await _line(process) for process in processes] == [word] * PROCESSES
            for process in processes:
                await _tell(process, "go on")
        return [json.loads(await _line(process)) for process in processes]
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), SECONDS + 240)
    assert line, "a process has ended"
    return line.decode().strip()


async def _tell(process: asyncio.subprocess.Process, line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line.encode() + b"\n")
    await process.stdin.drain()


def check(results: list[Result], *, may_lose: bool = False) -> int:
    """Fail unless all that was taken came once and in order; return how many messages came."""
    total = 0
    for reader in results:
        by_way: dict[str, list[int]] = {}
        for way, number in reader["received"]:
            by_way.setdefault(way, []).append(number)
        for sender in results:
            for way, sent in sender["sent"].items():
                if way.partition(">")[2] not in (reader["channel"], GROUP):
                    continue
                got = by_way.get(way, [])
                total += len(got)
                assert got == sorted(set(got)), f"{way}: twice, or out of order"
                lost = set(sent) - set(got)
                assert set(got) <= {*sent, *sender["unknown"][way]}, f"{way}: never sent"
                assert not lost or (may_lose and reader["gaps"]), (
                    f"{way}: lost {len(lost)} of {len(sent)}: {sorted(lost)[:5]}"
                )
    return total


async def test_connections_are_closed_every_second(broker: RabbitServer) -> None:
    async def trouble() -> None:
        # As often as the machine can in the time in which the others send.
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            await asyncio.gather(asyncio.sleep(1), in_thread(broker.close_all_connections))

    results = await loaded({"host": broker.fresh_vhost(), "capacity": 1_000_000}, trouble)
    assert check(results) > 10 * PROCESSES
    assert all(result["reconnects"] for result in results)
    assert not any(result["gaps"] for result in results)


async def test_the_broker_is_restarted_in_mid_load(broker: RabbitServer) -> None:
    async def trouble() -> None:
        await asyncio.sleep(2)
        await in_thread(broker.restart)
        broker.process.belongs_to_session()

    results = await loaded({"host": broker.fresh_vhost(), "capacity": 1_000_000}, trouble, seconds=max(SECONDS, 14))
    check(results, may_lose=True)
    assert all(result["reconnects"] for result in results)


async def test_one_of_three_nodes_is_killed(rabbit_cluster: RabbitClusterFactory) -> None:
    nodes = await in_thread(rabbit_cluster)
    vhost = (await in_thread(nodes[0].fresh_vhost)).rpartition("/")[2]
    hosts = [node.url_for(vhost) for node in nodes]

    async def trouble() -> None:
        await asyncio.sleep(3)
        nodes[0].kill()

    results = await loaded({"host": hosts, "capacity": 1_000_000}, trouble, seconds=max(SECONDS, 13))
    check(results, may_lose=True)
    # Everybody reached everybody in the last seconds again.
    for reader in results:
        for sender in results:
            way = f"{sender_name(sender)}>{reader['channel']}"
            last = max((number for name, number in reader["received"] if name == way), default=-1)
            assert last >= max(sender["sent"][way]) - 50, way


def sender_name(result: Result) -> str:
    """The name of the process."""
    return str(next(iter(result["sent"]))).partition(">")[0]
