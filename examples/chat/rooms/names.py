"""What a room and a person may be called, and what may be said."""

import hashlib
import re
import unicodedata

MAX_NAME = 24
MAX_ROOM = 32
MAX_TEXT = 2000

_ROOM = re.compile(rf"[a-z0-9](?:[a-z0-9-]{{0,{MAX_ROOM - 2}}}[a-z0-9])?")
_KEY = re.compile(r"[A-Za-z0-9-]{8,64}")


class RefusedError(ValueError):
    """A name or text that is not taken; its text is written for the person who sent it."""


def clean_room(raw: str) -> str:
    """Return the room's name as it is used everywhere, or raise `RefusedError`."""
    room = raw.strip().removeprefix("#").lower()
    if not _ROOM.fullmatch(room):
        raise RefusedError(
            f"A room's name is 1 to {MAX_ROOM} letters a-z, digits and hyphens, no hyphen first or last."
        )
    return room


def clean_name(raw: str) -> str:
    """Return a person's name with plain blanks and composed letters, or raise `RefusedError`."""
    name = " ".join(unicodedata.normalize("NFC", raw).split())
    if not 1 <= len(name) <= MAX_NAME:
        raise RefusedError(f"Your name is 1 to {MAX_NAME} characters.")
    # Anything else could hide or turn round what others read: controls, invisible and bidirectional marks.
    if not all(unicodedata.category(c)[0] in "LMN" or c in " .'-_" for c in name) or not name[0].isalnum():
        raise RefusedError("Your name may hold letters, digits, blanks and . ' - _, and starts with a letter or digit.")
    return name


def clean_text(raw: object) -> str:
    """Return what is said, without blanks around it, or raise `RefusedError`."""
    if not isinstance(raw, str):
        raise RefusedError("A message is text.")
    text = raw.strip()
    try:
        text.encode()  # JSON can smuggle in half a surrogate pair, which no UTF-8 message can carry
    except UnicodeEncodeError:
        raise RefusedError("That message holds characters that are none.") from None
    if not text:
        raise RefusedError("There is nothing in that message.")
    if len(text) > MAX_TEXT:
        raise RefusedError(f"That message is too long: {len(text)} characters, {MAX_TEXT} at most.")
    return text


def person_id(key: str) -> str:
    """Return the public id for a browser tab's own key, or raise `RefusedError`.

    A tab that reconnects brings its key again, so it is known as the same person
    at once, whichever process it reaches. The key itself is never shown to others.
    """
    if not _KEY.fullmatch(key):
        raise RefusedError("The page sent no usable key. Please reload it.")
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def room_group(room: str) -> str:
    """Return the name of the group that all of the room's sockets are in."""
    return f"chat.room.{room}"
