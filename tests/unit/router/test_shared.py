"""A message that several members of a group have."""

import datetime
import decimal
import uuid
from typing import Any

import pytest

from channels_trunk.codec import Codec
from channels_trunk.router.shared import SharedBody, packed

CODEC = Codec(serializer_format="msgpack", cipher=None)
FLAT = {
    "type": "chat",
    "text": "hello",
    "bytes": b"x",
    "number": 1,
    "share": 0.5,
    "yes": True,
    "nothing": None,
    "at": datetime.datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001 - naive ones are accepted
    "on": datetime.date(2026, 1, 2),
    "for": datetime.timedelta(seconds=3),
    "id": uuid.UUID(int=7),
    "price": decimal.Decimal("1.20"),
}


class Counting:
    """Counts how often a body was unpacked."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, body: bytes) -> dict[str, Any]:
        self.count += 1
        return CODEC.unpack(body)


def test_flat_message_is_unpacked_once_and_each_has_its_own() -> None:
    unpack, body = Counting(), SharedBody(CODEC.pack(FLAT))
    messages = [body.open(unpack) for _ in range(3)]
    assert unpack.count == 1
    for message in messages:
        assert message == FLAT
        message["text"] = "changed"
        message.clear()
    assert body.open(unpack) == FLAT


@pytest.mark.parametrize("value", [[1], {"a": 1}, [], {}])
def test_message_that_can_be_changed_within_is_unpacked_for_each(value: Any) -> None:
    unpack, body = Counting(), SharedBody(CODEC.pack({"type": "x", "value": value}))
    first, second = body.open(unpack), body.open(unpack)
    assert unpack.count == 2
    assert first == second == {"type": "x", "value": value}
    assert first["value"] is not second["value"]


def test_what_cannot_be_unpacked_raises_for_each() -> None:
    body = SharedBody(b"\xc1")
    for _ in range(2):
        with pytest.raises(Exception, match="malformed"):
            body.open(CODEC.unpack)


def test_what_a_serializer_of_the_users_makes_of_it_is_not_shared_if_it_can_be_changed() -> None:
    class Text(str):  # noqa: SLOT000 - what it may hold is the point
        """Of a class that may hold more than a string does."""

    body = SharedBody(b"")
    first, second = (body.open(lambda _: {"type": Text("x")}) for _ in range(2))
    assert first["type"] is not second["type"]


def test_packed() -> None:
    assert packed(b"x") == packed(SharedBody(b"x")) == b"x"
