"""Which consumer answers which WebSocket address and which worker channel."""

from django.urls import path

from rooms.consumers import RoomConsumer
from rooms.dice import CHANNEL, DiceWorker

websocket_urls = [path("ws/room/<str:room>/", RoomConsumer.as_asgi())]
channel_names = {CHANNEL: DiceWorker.as_asgi()}
