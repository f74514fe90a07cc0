"""Keeps child processes running: starts them, waits until they answer, restarts the ones that died, stops them all."""

import asyncio
import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
READY_WITHIN = 60.0
STOP_WITHIN = 5.0
SETTLED_AFTER = 5.0  # whoever lived this long did some work, as did whoever answered
TRIES = 5


class CannotStartError(Exception):
    """A child ended again and again before it did any work."""


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no business between us


def say(words: str) -> None:
    """Print a line now, so that whoever reads a pipe gets it now."""
    print(words, flush=True)


@dataclass
class Child:
    """One program that is kept running."""

    role: str
    command: Sequence[str]
    environment: dict[str, str]
    health: str | None = None  # the address that answers with our process id
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep_running(self) -> None:
        """Run the program for ever; it stops when this is cancelled. Raises `CannotStartError`."""
        failures = 0
        while failures < TRIES:
            status, hopeful = await self._run_once()
            failures = 0 if hopeful else failures + 1
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            say(f"chat: {self.role} ended ({how}); starting it again")
            await asyncio.sleep(min(2.0, 0.1 + 0.2 * failures**2))
        raise CannotStartError(f"{self.role} ended {TRIES} times in a row; see its messages above")

    async def _run_once(self) -> tuple[int, bool]:
        """Run the program to its end; return its status, and whether starting it again makes sense."""
        started = time.monotonic()
        say(f"chat: {self.role}: python {' '.join(self.command)}")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(HERE / "leash.py"), *self.command),
            stdin=asyncio.subprocess.PIPE,
            env={**os.environ, **self.environment},
            cwd=HERE,
            start_new_session=True,  # Ctrl-C is for us alone; we stop them in order
        )
        say(f"PID {self.role} {process.pid}")
        watch = asyncio.create_task(self._watch(process))
        try:
            status = await process.wait()
            answered = self.health is not None and self.ready.is_set()
            # Being killed says nothing about the program: people try that here.
            settled = status == -signal.SIGKILL or time.monotonic() - started > SETTLED_AFTER
            return status, answered or settled
        finally:
            watch.cancel()
            self.ready.clear()
            await _stop(process)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Wait until the program answers; one that never does is stopped."""
        try:
            async with asyncio.timeout(READY_WITHIN):
                if self.health is not None:
                    await _answered_by(process.pid, self.health)
        except TimeoutError:
            say(f"chat: {self.role} does not answer at {self.health}")
            process.kill()
        else:
            say(f"UP {self.role} {process.pid}")
            self.ready.set()


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Ask politely, then insist. After an interrupt a program ends in good order; few do so after SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), STOP_WITHIN)
        except TimeoutError:
            continue


async def _answered_by(pid: int, address: str) -> None:
    """Wait until that very process answers at the address: a stranger on our port must not pass for ours."""
    while True:
        if await asyncio.to_thread(_answering_pid, address) == pid:
            return
        await asyncio.sleep(0.1)


def _answering_pid(address: str) -> int | None:
    try:
        with _DIRECT.open(address, timeout=5) as answer:
            content = json.load(answer)
    except (OSError, ValueError):
        return None
    return content.get("pid") if isinstance(content, dict) else None
