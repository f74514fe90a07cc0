"""Four processes under mixed load, while something is done to their connections; and the ledger afterwards."""

import asyncio
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from channels_trunk.layers import PostgresChannelLayer

from .load_process import END, GROUP, JOBS, WORKERS

__all__ = ["FAULT_SECONDS", "Crew", "crew"]

# How long faults last; CHANNELS_TRUNK_FAULT_SECONDS=60 for a longer look.
FAULT_SECONDS = float(os.environ.get("CHANNELS_TRUNK_FAULT_SECONDS", "6"))
PROCESSES = 4
_STOP_WITHIN = 240  # what hangs; a machine under load has that much to read first


class Crew:
    """Processes of load_process.py."""

    def __init__(self, dsn: str, processes: dict[str, asyncio.subprocess.Process]) -> None:
        self._dsn = dsn
        self._processes = processes

    async def begin(self) -> None:
        """Have all of them send and receive."""
        channels = {name: await self._line(name) for name in self._processes}
        self._tell(json.dumps(channels))

    async def outcome(self) -> dict[str, dict[str, Any]]:
        """Stop them, and return what each has sent and received."""
        async with asyncio.timeout(_STOP_WITHIN):
            self._tell("stop")
            for name in self._processes:
                assert await self._line(name) == "sent"
            layer = PostgresChannelLayer(dsn=self._dsn, capacity=1_000_000)
            for _ in range(WORKERS * len(self._processes)):
                await layer.send(JOBS, END)
            await layer.close()
            return {name: json.loads(await self._line(name)) for name in self._processes}

    async def stragglers(self, missing: set[tuple[str, int]]) -> list[tuple[str, int]]:
        """Jobs that went back to the queue behind the workers' backs, when these had done their last."""
        found: list[tuple[str, int]] = []
        layer = PostgresChannelLayer(dsn=self._dsn)
        try:
            async with asyncio.timeout(60):
                while missing - set(found):
                    message = await layer.receive(JOBS)
                    found.append((message["stream"], message["number"]))
        except TimeoutError:
            pass
        finally:
            await layer.close()
        return found

    def _tell(self, line: str) -> None:
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.write(line.encode() + b"\n")

    async def _line(self, name: str) -> str:
        stdout = self._processes[name].stdout
        assert stdout is not None
        line = await stdout.readline()
        assert line, f"the process {name} has ended"
        return line.decode().rstrip("\n")


@asynccontextmanager
async def crew(dsn: str) -> AsyncIterator[Crew]:
    """Processes that have begun; they end with the block."""
    processes: dict[str, asyncio.subprocess.Process] = {}
    try:
        for number in range(PROCESSES):
            processes[f"p{number}"] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.integration.postgres.load_process", dsn, f"p{number}"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                limit=1 << 26,  # the outcome is one line
            )
        made = Crew(dsn, processes)
        await made.begin()
        yield made
    finally:
        for process in processes.values():
            if process.returncode is None:
                process.kill()
            await process.communicate()


def check_streams(outcome: dict[str, dict[str, Any]], *, may_miss: bool = False) -> None:
    """Each stream's messages came in order and once, and all of which send() was sure; none was made up."""
    for receiver, got in outcome.items():
        for stream, numbers in got["received"].items():
            sender, target = stream.split(">")
            assert target in (receiver, GROUP)
            sure, raised = set(outcome[sender]["sure"][stream]), set(outcome[sender]["raised"].get(stream, ()))
            pairs = [pair for pair in itertools.pairwise(numbers) if pair[0] >= pair[1]]
            assert not pairs, f"{stream} at {receiver}: repeated or out of order: {pairs[:5]}"
            assert set(numbers) <= sure | raised, f"{stream} at {receiver}: never sent"
            lost = sorted(sure - set(numbers))
            assert may_miss or not lost, f"{stream} at {receiver}: {len(lost)} lost: {lost[:5]}"


def jobs_of(outcome: dict[str, dict[str, Any]], what: str) -> set[tuple[str, int]]:
    """The jobs of which send() was `sure`, or `raised`."""
    streams = {f"{name}>{JOBS}": got[what] for name, got in outcome.items()}
    return {(stream, number) for stream, numbers in streams.items() for number in numbers.get(stream, ())}


def check_at_most_once(outcome: dict[str, dict[str, Any]]) -> Counter[tuple[str, int]]:
    """No job was done twice, or made up; return those that were done."""
    done = Counter((stream, number) for got in outcome.values() for stream, number in got["jobs"])
    twice = sorted(job for job, count in done.items() if count > 1)
    assert not twice, f"{len(twice)} jobs were done twice: {twice[:5]}"
    assert done.keys() <= jobs_of(outcome, "sure") | jobs_of(outcome, "raised")
    return done


async def check_jobs(crew: Crew, outcome: dict[str, dict[str, Any]]) -> None:
    """Each job was done once if its send() returned, and at most once if it raised."""
    done = check_at_most_once(outcome)
    sure = jobs_of(outcome, "sure")
    late = await crew.stragglers(sure - done.keys())
    assert not done.keys() & set(late)
    assert len(late) == len(set(late))
    lost = sorted(sure - done.keys() - set(late))
    assert not lost, f"{len(lost)} jobs of {len(sure)} were lost: {lost[:5]}"
