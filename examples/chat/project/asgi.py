"""The chat example's ASGI application: pages, their static files, the WebSocket, and the dice worker."""

import os

from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
pages = get_asgi_application()  # first of all: it makes Django ready for the imports below

from rooms.routing import channel_names, websocket_urls  # noqa: E402

application = ProtocolTypeRouter(
    {
        # Static files straight from the apps: fine for a demo, no collectstatic. Use a web server in production.
        "http": ASGIStaticFilesHandler(pages),
        "websocket": AllowedHostsOriginValidator(URLRouter(websocket_urls)),
        "channel": ChannelNameRouter(channel_names),
    }
)
