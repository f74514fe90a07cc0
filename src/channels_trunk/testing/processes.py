"""Peers that are processes, and the switchboard that starts and connects them."""

import asyncio
import contextlib
import itertools
import os
import pickle
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

    def __init__(self, board: "Switchboard", pid: int, *, patience: float) -> None:
        self.pid = pid
        self.patience = patience
        self._board = board
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
        """Wait until the connection and the process have ended."""
        await asyncio.wait_for(asyncio.shield(self._ended), self.limit())
        # Its parent does not wait for it, so that it is no zombie.
        while _is_there(self.pid):
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


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Template:
    """A process that has imported what a layer needs, and forks peers: see channels_trunk.testing.peer."""

    def __init__(self, under_test: LayerUnderTest, *, socket_path: str, stderr: Path) -> None:
        with stderr.open("ab") as written:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "channels_trunk.testing.peer", socket_path],
                stdin=subprocess.PIPE,
                stdout=written,
                stderr=written,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONFAULTHANDLER": "1"},
                start_new_session=True,
            )
        self._write(pickle.dumps((under_test.backend, dict(under_test.django_settings))).hex())

    def fork(self, name: str, stderr: Path) -> None:
        """Have it fork a peer."""
        self._write(f"{name} {stderr}")

    def close(self) -> None:
        """End it, and every peer of it that is still there."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()


class Switchboard:
    """Starts peer processes and connects them; used within one event loop."""

    def __init__(self, directory: Path) -> None:
        # The path of a Unix socket holds 107 bytes: `directory` must be a short one.
        self._socket_path = str(directory / "board")
        self._directory = directory
        self._server: asyncio.Server | None = None
        self._names = itertools.count(1)
        self._expected: dict[str, tuple[Any, asyncio.Future[ProcessPeer]]] = {}
        self._templates: dict[str, Template] = {}
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
        key = repr((under_test.backend, under_test.django_settings))
        if key not in self._templates:
            stderr = self._directory / f"template-{len(self._templates)}.stderr"
            self._templates[key] = Template(under_test, socket_path=self._socket_path, stderr=stderr)
        self._templates[key].fork(name, self._directory / f"{name}.stderr")
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
        """End every process that is still there."""
        for template in self._templates.values():
            template.close()
        self._templates.clear()

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
            peer = ProcessPeer(self, pid, patience=setup[-1])
            self.peers.append(peer)
            serving = asyncio.ensure_future(peer.serve(reader, writer))
            await asyncio.sleep(0)
            if not future.done():
                future.set_result(peer)
            await serving
        finally:
            self._links.discard(link)
