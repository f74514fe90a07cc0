"""Who is here: each server process knows its own people and tells the others, over the channel layer alone.

Every process has one `Desk`. While it has people, it reports them to the group
`chat.desks` once a second, and at once when somebody comes or goes. A desk that
was not heard of for a few seconds is forgotten with all its people: that is all
it takes to be right after a `kill -9`. The cost grows with the processes, not
with the square of the people: it is one message a second for each process.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any

from channels.exceptions import ChannelFull
from channels.layers import get_channel_layer

from channels_trunk.exceptions import ChannelLayerError

logger = logging.getLogger(__name__)

GROUP = "chat.desks"
REPORT_EVERY = 1.0
FORGET_AFTER = 4.0

Rooms = dict[str, dict[str, "Person"]]  # room -> person's id -> person


@dataclass(frozen=True)
class Person:
    """Somebody in a room, as all others may see them."""

    id: str
    name: str
    server: str


@dataclass
class Board:
    """What one desk knows: pure bookkeeping, told the time by its caller."""

    own: dict[str, dict[str, Person]] = field(default_factory=dict)  # room -> channel -> person
    others: dict[str, tuple[float, Rooms]] = field(default_factory=dict)  # desk -> heard at, rooms

    def people(self, room: str) -> list[Person]:
        """Return everybody in the room once, by name; who has just moved between processes counts as ours."""
        found = {}
        for _, rooms in self.others.values():
            found.update(rooms.get(room, {}))
        found.update({person.id: person for person in self.own.get(room, {}).values()})
        return sorted(found.values(), key=lambda person: (person.name.casefold(), person.id))

    def heard(self, desk: str, rooms: Rooms, *, now: float) -> None:
        """Take another desk's report in place of its latest one; an empty one is its goodbye."""
        self.others.pop(desk, None)
        if rooms:
            self.others[desk] = (now, rooms)

    def forget_silent(self, *, now: float) -> None:
        """Drop the desks that have not reported for too long: their processes are gone."""
        for desk, (heard_at, _) in list(self.others.items()):
            if now - heard_at > FORGET_AFTER:
                del self.others[desk]

    def report(self) -> dict[str, list[dict[str, str]]]:
        """Return our own people by room, as other desks' `rooms_of` reads it."""
        return {room: [asdict(person) for person in people.values()] for room, people in self.own.items()}


def rooms_of(report: dict[str, list[dict[str, str]]]) -> Rooms:
    """Return a board's report as people again."""
    return {room: {person["id"]: Person(**person) for person in people} for room, people in report.items()}


class Desk:
    """A process's receptionist: keeps the board, tells its own people and the other desks. Used by one event loop."""

    def __init__(self) -> None:
        self.board = Board()
        self._id = uuid.uuid4().hex
        self._shown: dict[str, list[Person]] = {}  # room -> what our people there were last told
        self._changed = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    def enter(self, room: str, channel: str, person: Person) -> None:
        """Note that somebody came; everybody in the room hears of it within a moment."""
        self.board.own.setdefault(room, {})[channel] = person
        self._changed.set()
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._run(), name="chat desk")

    def leave(self, room: str, channel: str) -> None:
        """Note that somebody went. A channel that is not here is none of our business."""
        people = self.board.own.get(room, {})
        people.pop(channel, None)
        if not people:
            self.board.own.pop(room, None)
            self._shown.pop(room, None)
        self._changed.set()

    async def _run(self) -> None:
        layer = get_channel_layer()
        channel = None
        while channel is None:
            try:
                channel = await layer.new_channel()
            except ChannelLayerError as error:
                logger.warning("The desk is not connected yet: %s", error)
                await asyncio.sleep(REPORT_EVERY)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(layer, channel))
            tasks.create_task(self._report(layer, channel))

    async def _report(self, layer: Any, channel: str) -> None:
        """Report when something changed, and every second while there is somebody to report."""
        message = {"type": "desk.call", "desk": self._id}  # the first thing: ask who is where already
        while True:
            self._changed.clear()
            self.board.forget_silent(now=time.monotonic())
            try:
                # Joining again and again costs nothing, and heals a membership that was lost.
                await layer.group_add(GROUP, channel)
                await layer.group_send(GROUP, message | {"rooms": self.board.report()})
                await self._show(layer)
                message = {"type": "desk.report", "desk": self._id}
            except ChannelLayerError as error:
                logger.warning("The desk could not report: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_EVERY if self.board.own else None):
                    await self._changed.wait()

    async def _listen(self, layer: Any, channel: str) -> None:
        """Take the other desks' reports; answer a call with one of our own."""
        while True:
            message = await layer.receive(channel)
            if message.get("desk") in (self._id, None):
                continue
            self.board.heard(message["desk"], rooms_of(message["rooms"]), now=time.monotonic())
            if message["type"] == "desk.call":
                self._changed.set()
            await self._show(layer)

    async def _show(self, layer: Any) -> None:
        """Tell our own people in each room whose list is another than they know."""
        for room in list(self.board.own):
            people = self.board.people(room)
            if people == self._shown.get(room):
                continue
            self._shown[room] = people
            for channel in list(self.board.own.get(room, {})):
                try:
                    await layer.send(channel, {"type": "chat.people"})
                except ChannelFull:  # a slow reader: the next report tries again
                    self._shown.pop(room, None)


desk = Desk()
