"""The site's ASGI application. It uses the layer while it is imported: under --preload that is before the fork."""

import os

import django
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.acceptance.deployed.settings")
django.setup()

from tests.acceptance.deployed.consumers import AliasParty, Doubler, Party, SyncParty  # noqa: E402

sockets = [
    path("async/", Party.as_asgi()),
    path("sync/", SyncParty.as_asgi()),
    path("alias/", AliasParty.as_asgi()),
]
application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter(sockets),
        "channel": ChannelNameRouter({"doubler": Doubler.as_asgi()}),
    }
)

if os.environ.get("DEPLOYED_USES_LAYER_AT_IMPORT"):
    layer = get_channel_layer()
    async_to_sync(layer.send)("warm-up", {"type": "hello"})
    assert async_to_sync(layer.receive)("warm-up") == {"type": "hello"}
