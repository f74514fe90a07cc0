"""The room's WebSocket: what a browser may say, and what it is told."""

import json
import os
import time
import uuid
from collections import deque
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qs

from channels.exceptions import ChannelFull
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings

from channels_trunk.exceptions import ChannelLayerError
from rooms import dice
from rooms.names import RefusedError, clean_name, clean_room, clean_text, person_id, room_group
from rooms.presence import Person, desk

REFUSED = 4400  # the close code after which a browser does not try again
MAX_FRAME = 16_384
PATIENCE = (10, 5.0)  # at most so many messages in so many seconds


class RoomConsumer(AsyncJsonWebsocketConsumer):
    """One browser tab in one room."""

    room: str | None = None
    person: Person

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the socket; whatever ends it, nobody is left standing in the room."""
        self._said: deque[float] = deque(maxlen=PATIENCE[0])  # when the latest messages came
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self.room is not None:
                desk.leave(self.room, self.channel_name)

    async def connect(self) -> None:
        """Check the names, join the room's group, and say hello."""
        await self.accept()
        asked = parse_qs(self.scope["query_string"].decode("utf-8", "replace"))
        try:
            room = clean_room(self.scope["url_route"]["kwargs"]["room"])
            name = clean_name(asked.get("name", [""])[0])
            self.person = Person(id=person_id(asked.get("key", [""])[0]), name=name, server=settings.CHAT_SERVER)
        except RefusedError as refusal:
            await self._notice(str(refusal))
            await self.close(code=REFUSED)
            return
        await self.channel_layer.group_add(room_group(room), self.channel_name)
        self.room = room
        desk.enter(room, self.channel_name, self.person)
        await self.send_json({"type": "welcome", "you": asdict(self.person), "room": room, "pid": os.getpid()})
        await self.chat_people({})

    async def disconnect(self, code: int) -> None:
        """Leave the room's group."""
        if self.room is not None:
            await self.channel_layer.group_discard(room_group(self.room), self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **_: Any) -> None:
        """Read what the browser sent; nonsense is answered, and harms nobody."""
        if self.room is None:
            return  # refused already; what was still under way is of no interest
        try:
            await self._take(_parse(text_data))
        except RefusedError as refusal:
            await self._notice(str(refusal))
        except ChannelFull:
            await self._notice("The dice are very busy. Please try again in a moment.")
        except ChannelLayerError:
            await self._notice("That message could not be sent. Please try again.")

    async def _take(self, content: dict[str, Any]) -> None:
        """Act on one message of the browser."""
        match content.get("type"):
            case "ping":  # so that the browser notices a connection that is open, but dead
                await self.send_json({"type": "pong"})
            case "say":
                self._mind_patience()
                await self._say(clean_text(content.get("text")))
            case _:
                raise RefusedError("That was not understood.")

    async def _say(self, text: str) -> None:
        """Show the text to the room, and pass dice on to the worker."""
        command, _, rest = text.partition(" ")
        if command.startswith("/") and command != "/roll":
            raise RefusedError(f"There is no {command}. Try /roll 2d6.")
        said = {"type": "chat.said", **asdict(self.person), "text": text, "at": int(time.time() * 1000)}
        await self.channel_layer.group_send(room_group(str(self.room)), said)
        if command == "/roll":
            roll = {"type": "dice.roll", "room": self.room, "name": self.person.name, "id": uuid.uuid4().hex}
            await self.channel_layer.send(dice.CHANNEL, roll | {"notation": rest, "reply_to": self.channel_name})

    def _mind_patience(self) -> None:
        """Refuse somebody who floods the room."""
        now = time.monotonic()
        if len(self._said) == PATIENCE[0] and now - self._said[0] < PATIENCE[1]:
            raise RefusedError("Slowly, please: that was a lot of messages at once.")
        self._said.append(now)

    async def _notice(self, text: str) -> None:
        await self.send_json({"type": "notice", "text": text})

    # What arrives over the channel layer; each method is named after the message's type.

    async def chat_said(self, message: dict[str, Any]) -> None:
        """Pass on what somebody in the room said."""
        await self.send_json(message | {"type": "said"})

    async def chat_rolled(self, message: dict[str, Any]) -> None:
        """Pass on how the dice fell."""
        await self.send_json(message | {"type": "rolled"})

    async def chat_people(self, _message: dict[str, Any]) -> None:
        """Show who is here now."""
        people = desk.board.people(str(self.room))
        await self.send_json({"type": "people", "people": [asdict(person) for person in people]})

    async def chat_notice(self, message: dict[str, Any]) -> None:
        """Pass on a word meant for this tab alone."""
        await self._notice(message["text"])

    async def chat_gap(self, _message: dict[str, Any]) -> None:
        """Say so when the layer had to skip messages (its `gap_event`)."""
        await self._notice("Some messages may be missing here.")


def _parse(text: str | None) -> dict[str, Any]:
    """Return the JSON object in a text frame, or raise `RefusedError`."""
    if text is None or len(text) > MAX_FRAME:
        raise RefusedError("That was not understood.")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise RefusedError("That was not understood.")
    return content
