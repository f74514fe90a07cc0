"""A person in the chat without a browser: a bare WebSocket."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin

Message = dict[str, Any]


class Guest:
    """One socket in one room; remembers all that it was told."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.heard: list[Message] = []

    async def say(self, text: str) -> None:
        """Say something to the room."""
        await self.send({"type": "say", "text": text})

    async def send(self, content: object) -> None:
        """Send any JSON."""
        await self.socket.send(json.dumps(content))

    async def hear(self, kind: str, **expected: object) -> Message:
        """Wait for the next message of that type which holds all that is expected."""
        while True:
            message: Message = json.loads(await self.socket.recv())
            self.heard.append(message)
            if message["type"] == kind and expected.items() <= message.items():
                return message

    async def see(self, *names: str) -> None:
        """Wait until exactly these people are here."""
        while self.here() != sorted(names):
            await self.hear("people")

    def here(self) -> list[str]:
        """Who was here when we were told last."""
        lists = [message["people"] for message in self.heard if message["type"] == "people"]
        return sorted(person["name"] for person in lists[-1]) if lists else []


@contextlib.asynccontextmanager
async def entered(address: str, *, room: str, name: str, key: str | None = None) -> AsyncIterator[Guest]:
    """Be in the room while the block runs."""
    async with connected(address, room=room, name=name, key=key or uuid4().hex) as guest:
        await guest.hear("welcome")
        yield guest


@contextlib.asynccontextmanager
async def connected(address: str, *, room: str, origin: str | None = None, **query: str) -> AsyncIterator[Guest]:
    """Open the room's socket while the block runs, with whatever is asked for."""
    where = f"{address.replace('http', 'ws', 1)}ws/room/{room}/?{urlencode(query)}"
    # Without a limit on what is unread: a guest that reads no further must not block the closing handshake.
    async with connect(where, origin=Origin(origin or address.rstrip("/")), proxy=None, max_queue=None) as socket:
        yield Guest(socket)
