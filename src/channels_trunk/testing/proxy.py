"""A TCP proxy for faults of the network: connections that are reset, refused, hang, or are cut at a chosen packet."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from channels_trunk.testing.cut import Cut, Direction, Manner, Scope
from channels_trunk.testing.ports import LOOPBACK, free_port

__all__ = ["Proxy", "stop_listening"]

CALL_SECONDS = 10.0
CHUNK = 65_536
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close() sends RST instead of FIN

_T = TypeVar("_T")
_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Passes connections on to a target, until told otherwise. Runs in a thread of its own; any thread may call it.

    Each method holds when it returns.
    """

    def __init__(self, host: str, port: int) -> None:
        self.address = (LOOPBACK, free_port())
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._listener: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}  # of the proxy's thread alone, as below
        self._packets: Counter[Direction] = Counter()
        self._plan: Cut | None = None
        self._noted: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._call(self._listen())

    @property
    def host(self) -> str:
        return self.address[0]

    @property
    def port(self) -> int:
        return self.address[1]

    def connections(self) -> int:
        """How many clients are connected now."""
        return self._call(self._count())

    def cut(self) -> None:
        """Reset every connection, on both sides. New ones are still taken."""
        self._call(self._cut())

    def plan(self, cut: Cut | None, *, noted: Callable[[], object] = lambda: None) -> None:
        """Count the packets from 0 again, and make this cut when its number comes; new connections are still taken.

        A packet is what one read brings, of whatever connection: at most 64 KiB. `noted` is called, in the proxy's
        thread, just before the cut is made.
        """
        self._call(self._set_plan(cut, noted))

    def packets(self) -> Counter[Direction]:
        """How many packets there were since plan(), in each direction; the one at which it cut is one of them."""
        return self._call(self._counted())

    def hang(self) -> None:
        """Keep connections open and take new ones, but pass nothing on: a network that is cut in two.

        As with TCP nothing is lost by it: after resume() what was sent meanwhile goes on its way.
        """
        self._call(self._hang())

    def refuse(self) -> None:
        """Refuse new connections; those that exist stay."""
        self._call(self._refuse())

    def resume(self) -> None:
        """Take connections and pass everything on, again."""
        self._call(self._resume())

    def retarget(self, host: str, port: int) -> None:
        """Pass new connections on to another address; those that exist stay where they are."""
        self._target = (host, port)

    def close(self) -> None:
        """Reset every connection and stop."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accepted, *self.address)

    async def _count(self) -> int:
        return len(self._links)

    async def _set_plan(self, cut: Cut | None, noted: Callable[[], object]) -> None:
        self._packets.clear()
        self._plan, self._noted = cut, noted

    async def _counted(self) -> Counter[Direction]:
        return self._packets.copy()

    async def _hang(self) -> None:
        self._flowing.clear()

    async def _refuse(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            await stop_listening(listener)

    async def _resume(self) -> None:
        await self._listen()
        self._flowing.set()

    async def _close(self) -> None:
        await self._refuse()
        # What was taken a moment ago is no link yet, but a task of the loop's.
        while asyncio.all_tasks() - {asyncio.current_task()}:
            await self._cut()
            await asyncio.sleep(0)

    async def _cut(self) -> None:
        links = dict(self._links)
        for task, writers in links.items():
            _reset(writers)
            task.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        task = self._loop.create_task(self._link((reader, writer), writers))
        self._links[task] = writers
        task.add_done_callback(self._links.pop)

    async def _link(self, client: _Stream, writers: list[asyncio.StreamWriter]) -> None:
        """Serve one connection; `writers` is where _cut() looks."""
        try:
            await self._flowing.wait()
            target = await asyncio.open_connection(*self._target)
            writers.append(target[1])
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(client[0], target[1], Direction.TO_SERVER, writers))
                group.create_task(self._pump(target[0], client[1], Direction.TO_CLIENT, writers))
        except* OSError:
            _reset(writers)  # one side was reset, or the target refused: so is the other
        finally:
            _end(writers)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        direction: Direction,
        link: list[asyncio.StreamWriter],
    ) -> None:
        while data := await reader.read(CHUNK):
            await self._flowing.wait()
            if (cut := self._due(direction)) is not None:
                writer.write(cut.passed(data))
                self._perform(cut, link)
                return
            writer.write(data)
            await writer.drain()
        await self._flowing.wait()
        if writer.can_write_eof():
            writer.write_eof()

    def _due(self, direction: Direction) -> Cut | None:
        """Count a packet; return the cut that is to be made at it."""
        number = self._packets[direction]
        self._packets[direction] += 1
        cut = self._plan
        if cut is None or (cut.direction, cut.number) != (direction, number):
            return None
        self._plan = None
        self._noted()
        return cut

    def _perform(self, cut: Cut, link: list[asyncio.StreamWriter]) -> None:
        # The pumps of these links end by themselves: they read the end of what was closed.
        for writers in [link] if cut.scope is Scope.ONE else list(self._links.values()):
            if cut.manner is Manner.RESET:
                _reset(writers)
            else:
                _end(writers)


async def stop_listening(server: asyncio.Server) -> None:
    """Take no more connections; those that exist stay."""
    for listening in server.sockets:
        server.get_loop().remove_reader(listening.fileno())
    # What was taken a moment ago becomes a connection first: asyncio 3.11 leaves its socket open if the server is
    # closed by then.
    await asyncio.sleep(0)
    server.close()


def _end(writers: Iterable[asyncio.StreamWriter]) -> None:
    for writer in writers:
        writer.close()


def _reset(writers: Iterable[asyncio.StreamWriter]) -> None:
    for writer in writers:
        with contextlib.suppress(OSError):  # it has been closed meanwhile
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        writer.transport.abort()
