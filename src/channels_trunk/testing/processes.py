"""Peers that are processes, and the switchboard that starts and connects them."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from channels_trunk.testing.features import LayerUnderTest
from channels_trunk.testing.peers import PATIENCE, Peer
from channels_trunk.testing.wire import read_frame, write_frame

__all__ = ["PeerGone", "ProcessPeer", "Switchboard"]


class PeerGone(Exception):
    """The peer ended before it answered."""


class ProcessPeer(Peer):
    """Another process, connected by a Switchboard."""

    def __init__(
        self, board: "Switchboard", pid: int, *, process: subprocess.Popen[bytes] | None, patience: float
    ) -> None:
        self.pid = pid
        self.patience = patience
        self._board = board
        self._process = process  # None for a child that another peer forked
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writer: asyncio.StreamWriter | None = None

    def start(self, command: str, *arguments: Any, **options: Any) -> asyncio.Future[Any]:
        """Send the command."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._writer is None or self._ended.done():
            future.set_exception(PeerGone(f"the peer {self.pid} has ended"))
            return future
        number = next(self._numbers)
        self._waiting[number] = future
        future.add_done_callback(lambda done: self._forget(number, cancelled=done.cancelled()))
        write_frame(self._writer, ("call", number, command, arguments, options))
        return future

    def kill(self) -> None:
        """End the process with SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)

    def freeze(self) -> None:
        """Stop the process with SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    async def freeze_unlocked(self, probe: Callable[[], Awaitable[object]], *, within: float) -> None:
        """Stop the process, but not inside a transaction: whoever uses the same database would wait for its lock.

        `probe` writes something there, which is to be done within so many seconds.
        """
        while True:
            self.freeze()
            try:
                async with asyncio.timeout(within):
                    await probe()
            except TimeoutError:
                self.thaw()
                await self.new_channel()  # answered when it has gone on for a while
            else:
                return

    def thaw(self) -> None:
        """Let a frozen process go on."""
        os.kill(self.pid, signal.SIGCONT)

    async def gone(self) -> None:
        """Wait until the connection has ended, and reap the process."""
        await asyncio.wait_for(asyncio.shield(self._ended), self.limit())
        while self._process is not None and self._process.poll() is None:
            await asyncio.sleep(0.002)

    async def stop(self) -> None:
        """Let the peer close its layer and end."""
        if self._writer is not None and not self._ended.done():
            write_frame(self._writer, ("stop",))
        await asyncio.wait_for(self.gone(), self.limit())

    async def fork(self) -> "ProcessPeer":
        """Let the peer fork a child, which serves with the layer object that it inherits."""
        return await self._board.forked_by(self)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read answers until the connection ends."""
        self._writer = writer
        try:
            while True:
                self._settle(await read_frame(reader))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            if not self._ended.done():
                self._ended.set_result(None)
            for future in list(self._waiting.values()):
                if not future.done():
                    future.set_exception(PeerGone(f"the peer {self.pid} ended before it answered"))
                    future.exception()  # a rule that kills a peer need not look at what it was doing

    def _settle(self, answer: tuple[Any, ...]) -> None:
        kind, *rest = answer
        if kind == "stopped":
            return
        future = self._waiting.get(rest[0])
        if future is None or future.done():
            return
        if kind == "result":
            future.set_result(rest[1])
        elif kind == "error":
            future.set_exception(rest[1])
        else:
            future.cancel()

    def _forget(self, number: int, *, cancelled: bool) -> None:
        if self._waiting.pop(number, None) is not None and cancelled and self._writer is not None:
            write_frame(self._writer, ("cancel", number))


class Switchboard:
    """Starts peer processes and connects them; used within one event loop."""

    def __init__(self, directory: Path) -> None:
        # The path of a Unix socket holds 107 bytes: `directory` must be a short one.
        self._socket_path = str(directory / "board")
        self._directory = directory
        self._server: asyncio.Server | None = None
        self._names = itertools.count(1)
        self._expected: dict[str, tuple[Any, asyncio.Future[ProcessPeer]]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._links: set[asyncio.Task[None]] = set()
        self.peers: list[ProcessPeer] = []

    async def open(self) -> None:
        """Listen for peers."""
        self._server = await asyncio.start_unix_server(self._connected, self._socket_path)

    async def spawn(self, under_test: LayerUnderTest, config: dict[str, Any]) -> ProcessPeer:
        """Start a process with a layer of its own."""
        name = f"peer-{next(self._names)}"
        setup = (under_test.backend, config, dict(under_test.django_settings), under_test.patience)
        future = self._expect(name, setup)
        with (self._directory / f"{name}.stderr").open("wb") as stderr:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "channels_trunk.testing.peer", self._socket_path, name],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONFAULTHANDLER": "1"},
            )
        return await asyncio.wait_for(future, PATIENCE)

    async def forked_by(self, parent: ProcessPeer) -> ProcessPeer:
        """Let `parent` fork, and return its child."""
        name = f"peer-{next(self._names)}"
        future = self._expect(name, (None, None, None, parent.patience))
        await parent.call("fork", name)
        return await asyncio.wait_for(future, PATIENCE)

    async def close(self) -> list[str]:
        """Stop all peers, kill those that do not end, and return what went wrong."""
        complaints = []
        for peer in self.peers:
            try:
                await peer.stop()
            except TimeoutError:
                complaints.append(f"the peer {peer.pid} did not end when its layer was closed")
                peer.kill()
        if self._server is not None:
            self._server.close()
        for link in list(self._links):
            await asyncio.wait_for(asyncio.gather(link, return_exceptions=True), PATIENCE)
        self.kill_all()
        return complaints

    def kill_all(self) -> None:
        """End every process that is still there, and reap it."""
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()

    def messages(self) -> str:
        """Return what the peers wrote to stderr."""
        found = [(path.name, path.read_text(errors="replace")) for path in sorted(self._directory.glob("*.stderr"))]
        return "\n".join(f"--- {name}\n{text}" for name, text in found if text)

    def _expect(self, name: str, setup: Any) -> asyncio.Future[ProcessPeer]:
        future: asyncio.Future[ProcessPeer] = asyncio.get_running_loop().create_future()
        self._expected[name] = (setup, future)
        return future

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        try:
            _, name, pid = await read_frame(reader)
            setup, future = self._expected.pop(name)
            write_frame(writer, setup)
            peer = ProcessPeer(self, pid, process=self._processes.get(name), patience=setup[-1])
            self.peers.append(peer)
            serving = asyncio.ensure_future(peer.serve(reader, writer))
            await asyncio.sleep(0)
            if not future.done():
                future.set_result(peer)
            await serving
        finally:
            self._links.discard(link)
