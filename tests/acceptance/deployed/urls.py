"""One page: it tells the party something."""

import os

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.http import HttpRequest, JsonResponse
from django.urls import path

from tests.acceptance.deployed.held import threads_and_files


def say(request: HttpRequest) -> JsonResponse:
    """Send to the party as synchronous Django code does, in both ways; show what the process holds then."""
    layer = get_channel_layer(request.GET.get("layer", "default"))
    text = request.GET["text"]
    async_to_sync(layer.group_send)("party", {"type": "party.said", "text": f"{text}, adapted", "pid": os.getpid()})
    layer.sync.group_send("party", {"type": "party.said", "text": f"{text}, plain", "pid": os.getpid()})
    threads, files = threads_and_files()
    return JsonResponse({"pid": os.getpid(), "threads": threads, "files": files})


urlpatterns = [path("say", say)]
