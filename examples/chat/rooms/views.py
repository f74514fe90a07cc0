"""The pages: a front door and the room itself."""

import os

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from rooms.names import MAX_NAME, MAX_ROOM, MAX_TEXT, RefusedError, clean_name, clean_room

SUGGESTIONS = ["lobby", "kitchen", "games-night"]


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Ask for a name and a room; a good answer leads into the room."""
    answers = {"name": request.GET.get("name", ""), "room": request.GET.get("room", "")}
    errors: dict[str, str] = {}
    cleaned: dict[str, str] = {}
    for field, clean in (("name", clean_name), ("room", clean_room)):
        try:
            cleaned[field] = clean(answers[field])
        except RefusedError as refusal:
            errors[field] = str(refusal)
    if not errors:
        return redirect(reverse("room", args=[cleaned["room"]], query={"name": cleaned["name"]}))
    asked = "enter" in request.GET  # the form was sent: only then do its mistakes matter
    context = {
        "answers": {**answers, "room": answers["room"] or ("" if asked else SUGGESTIONS[0])},
        "errors": errors if asked else {},
        "suggestions": SUGGESTIONS,
        "max_name": MAX_NAME,
        "max_room": MAX_ROOM,
    }
    return render(request, "rooms/index.html", context | _process(request), status=400 if asked else 200)


@require_safe
def room(request: HttpRequest, room: str) -> HttpResponse:
    """Show the room; somebody without a usable name is asked for it first."""
    try:
        cleaned, name = clean_room(room), clean_name(request.GET.get("name", ""))
    except RefusedError:
        return redirect(reverse("index", query={"room": room}))
    context = {"room": cleaned, "name": name, "max_text": MAX_TEXT}
    return render(request, "rooms/room.html", context | _process(request))


@require_safe
def health(_request: HttpRequest) -> JsonResponse:
    """Say which process answers; run.py waits for this."""
    return JsonResponse({"server": settings.CHAT_SERVER, "pid": os.getpid()})


def _process(request: HttpRequest) -> dict[str, object]:
    """Return what the pages show of the server processes: which one this is, and where they all are."""
    here = {settings.CHAT_SERVER: request.build_absolute_uri("/")}
    return {"server": settings.CHAT_SERVER, "pid": os.getpid(), "servers": {**settings.CHAT_SERVERS, **here}}
