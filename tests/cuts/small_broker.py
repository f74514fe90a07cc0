"""The smallest broker over TCP, and a layer for it that survives every cut: what the saboteurs are made of.

Each request has a number, by which the broker knows one that comes again; so has each message on its way to a node,
which says on each connection what it has got so far.
"""

import asyncio
import itertools
import threading
import uuid
from collections import OrderedDict, defaultdict, deque
from typing import Any, NamedTuple

from channels_trunk.testing.ports import LOOPBACK
from channels_trunk.testing.wire import read_frame, write_frame

POLL = 0.002
Message = dict[str, Any]


class Place:
    """What the broker knows of a node."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.items: list[tuple[int, str, Message]] = []  # not yet known to have come
        self.answers: OrderedDict[int, Any] = OrderedDict()  # to requests that may come again
        self.writer: asyncio.StreamWriter | None = None


class Broker:
    """Serves in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._places: defaultdict[str, Place] = defaultdict(Place)
        self._queues: defaultdict[str, deque[Message]] = defaultdict(deque)
        self._groups: defaultdict[str, set[str]] = defaultdict(set)
        self._thread = threading.Thread(target=self._loop.run_forever, name="small broker")
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, LOOPBACK, 0)

    async def _stop(self) -> None:
        self._server.close()
        for task in (others := asyncio.all_tasks() - {asyncio.current_task()}):
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            node, seen = await read_frame(reader)
            place = self._places[node]
            place.writer = writer
            place.items = [item for item in place.items if item[0] > seen]
            for item in place.items:
                write_frame(writer, item)
            while True:
                number, *request = await read_frame(reader)
                if number not in place.answers:
                    place.answers[number] = getattr(self, request[0])(*request[1:])
                write_frame(writer, (number, place.answers[number]))
        except (asyncio.IncompleteReadError, OSError):
            return
        finally:
            writer.close()

    # What can be asked for

    def send(self, channel: str, message: Message) -> None:
        node, mark, _ = channel.partition("!")
        if not mark:
            self._queues[channel].append(message)
            return
        place = self._places[node]
        item = (next(place.numbers), channel, message)
        place.items.append(item)
        if place.writer is not None:
            write_frame(place.writer, item)

    def group_send(self, group: str, message: Message) -> None:
        for channel in self._groups[group]:
            self.send(channel, message)

    def group_add(self, group: str, channel: str) -> None:
        self._groups[group].add(channel)

    def group_discard(self, group: str, channel: str) -> None:
        self._groups[group].discard(channel)

    def claim(self, channel: str) -> Message | None:
        queue = self._queues[channel]
        return queue.popleft() if queue else None

    def give_back(self, channel: str, message: Message) -> None:
        self._queues[channel].appendleft(message)

    def leave(self, node: str) -> None:
        for members in self._groups.values():
            members.difference_update([channel for channel in members if channel.startswith(f"{node}!")])


class Request(NamedTuple):
    content: tuple[Any, ...]
    answer: "asyncio.Future[Any]"


class SmallLayer:
    """Of one event loop. No request fails: it waits, and is sent again."""

    def __init__(self, *, port: int) -> None:
        self._port = port
        self._node = uuid.uuid4().hex
        self._numbers = itertools.count()
        self._requests: dict[int, Request] = {}  # without an answer yet
        self._seen = 0
        self._was_connected = False
        self._boxes: defaultdict[str, asyncio.Queue[Message]] = defaultdict(asyncio.Queue)
        self._giving_back: set[asyncio.Task[Any]] = set()
        self._writer: asyncio.StreamWriter | None = None
        self._connection: asyncio.Task[None] | None = None

    async def new_channel(self, prefix: str = "own") -> str:
        return f"{self._node}!{prefix}{next(self._numbers)}"

    async def send(self, channel: str, message: Message) -> None:
        await self._ask("send", channel, message)

    async def group_send(self, group: str, message: Message) -> None:
        await self._ask("group_send", group, message)

    async def group_add(self, group: str, channel: str) -> None:
        await self._ask("group_add", group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await self._ask("group_discard", group, channel)

    async def receive(self, channel: str) -> Message:
        if "!" in channel:
            return await self._boxes[channel].get()
        while True:
            claim = asyncio.ensure_future(self._ask("claim", channel))
            try:
                message: Message | None = await asyncio.shield(claim)
            except asyncio.CancelledError:
                giving_back = asyncio.create_task(self._give_back(channel, claim))
                self._giving_back.add(giving_back)
                giving_back.add_done_callback(self._giving_back.discard)
                raise
            if message is not None:
                return message
            await asyncio.sleep(POLL)

    async def close(self) -> None:
        if self._connection is not None:
            await asyncio.gather(*self._giving_back)
            await self._ask("leave", self._node)
            self._connection.cancel()
            await asyncio.gather(self._connection, return_exceptions=True)
            self._connection = None

    async def _give_back(self, channel: str, claim: "asyncio.Future[Message | None]") -> None:
        message = await claim
        if message is not None:
            await self._ask("give_back", channel, message)

    async def _ask(self, *content: Any) -> Any:
        number = next(self._numbers)
        request = self._requests[number] = Request(content, asyncio.get_running_loop().create_future())
        self._write(number, *content)
        return await request.answer

    def _write(self, *frame: Any) -> None:
        if self._connection is None:
            self._connection = asyncio.create_task(self._stay_connected())
        if self._writer is not None:
            write_frame(self._writer, frame)

    async def _stay_connected(self) -> None:
        while True:
            try:
                await self._converse()
            except (asyncio.IncompleteReadError, OSError):
                await asyncio.sleep(POLL)
            finally:
                self._writer = None

    async def _converse(self) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
        try:
            write_frame(writer, self._greeting())
            if self._was_connected:
                self._again()
            self._was_connected = True
            for number, request in self._requests.items():
                write_frame(writer, (number, *request.content))
            self._writer = writer
            while True:
                number, *rest = await read_frame(reader)
                if len(rest) == 1:
                    self._answered(number, rest[0])
                elif number > self._seen:
                    self._seen = number
                    self._boxes[rest[0]].put_nowait(rest[1])
        finally:
            writer.close()

    def _greeting(self) -> tuple[str, int]:
        return self._node, self._seen

    def _again(self) -> None:
        """There is a connection again; for the saboteurs."""

    def _answered(self, number: int, answer: Any) -> None:
        request = self._requests.pop(number, None)
        if request is not None and not request.answer.done():
            request.answer.set_result(answer)
