"""A party that everybody with a socket is at, and a worker."""

import os
from typing import Any

from asgiref.sync import async_to_sync
from channels.consumer import AsyncConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer

Message = dict[str, Any]


class Party(AsyncJsonWebsocketConsumer):
    """Passes on whatever anybody says."""

    groups = ["party"]

    async def connect(self) -> None:
        """Say which process this is."""
        await self.accept()
        await self.send_json({"pid": os.getpid()})

    async def receive_json(self, content: Message, **_: Any) -> None:
        """Tell the party."""
        await self.channel_layer.group_send(
            "party", {"type": "party.said", "text": content["text"], "pid": os.getpid()}
        )

    async def party_said(self, message: Message) -> None:
        """Tell the browser."""
        await self.send_json({"text": message["text"], "pid": message["pid"]})


class AliasParty(Party):
    """The same over the other layer."""

    channel_layer_alias = "by_alias"


class SyncParty(JsonWebsocketConsumer):
    """The same as synchronous code, which Channels runs in threads."""

    groups = ["party"]

    def connect(self) -> None:
        """Say which process this is."""
        self.accept()
        self.send_json({"pid": os.getpid()})

    def receive_json(self, content: Message, **_: Any) -> None:
        """Tell the party."""
        said = {"type": "party.said", "text": content["text"], "pid": os.getpid()}
        async_to_sync(self.channel_layer.group_send)("party", said)

    def party_said(self, message: Message) -> None:
        """Tell the browser."""
        self.send_json({"text": message["text"], "pid": message["pid"]})


class Doubler(AsyncConsumer):
    """A worker: doubles numbers for whoever asks."""

    async def double(self, message: Message) -> None:
        """Answer the asker."""
        answer = {"type": "answer", "number": message["number"] * 2, "pid": os.getpid()}
        await self.channel_layer.send(message["reply_to"], answer)
