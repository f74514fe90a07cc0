"""The registry of serializers, and layers with serializers of the user's own."""

import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from channels_trunk.codec import BaseMessageSerializer, Codec, register_serializer, serializer_formats
from channels_trunk.codec import serializers as module
from channels_trunk.envelope import Envelope, Kind
from channels_trunk.exceptions import DecodeError, EncodeError, OptionsError
from channels_trunk.layers import MemoryChannelLayer


class Pickled(BaseMessageSerializer):
    def as_bytes(self, message: dict[str, Any]) -> bytes:
        return pickle.dumps(message)

    def from_bytes(self, body: bytes) -> dict[str, Any]:
        message: dict[str, Any] = pickle.loads(body)
        return message


class Broken(BaseMessageSerializer):
    def as_bytes(self, message: dict[str, Any]) -> bytes:
        return "not bytes"  # type: ignore[return-value]

    def from_bytes(self, body: bytes) -> dict[str, Any]:
        raise ZeroDivisionError("opensesame")


class Choosy(Pickled):
    def as_bytes(self, message: dict[str, Any]) -> bytes:
        raise TypeError("message['a'] is not to my taste")


@pytest.fixture(autouse=True)
def _registry_as_it_was() -> Iterator[None]:
    before = dict(module._registry)
    yield
    module._registry.clear()
    module._registry.update(before)


def test_msgpack_and_json_are_there() -> None:
    assert serializer_formats() == ["json", "msgpack"]


async def test_a_layer_uses_a_registered_serializer() -> None:
    register_serializer("pickled", Pickled)
    layer = MemoryChannelLayer(serializer_format="pickled")
    message = {"type": "x", "anything": {1, 2, 3}}

    await layer.send("channel", message)
    received = await layer.receive("channel")

    assert received == message
    assert received is not message
    await layer.close()


def test_a_format_is_known_from_its_registration_on() -> None:
    with pytest.raises(OptionsError, match="must be one of 'json', 'msgpack', not 'pickled'; see register_serializer"):
        MemoryChannelLayer(serializer_format="pickled")
    register_serializer("pickled", Pickled)

    MemoryChannelLayer(serializer_format="pickled")


@pytest.mark.parametrize("name", ["", "a b", "5", None, 5, "a-b"])
def test_a_name_must_be_an_identifier(name: Any) -> None:
    with pytest.raises(
        OptionsError, match=r"^register_serializer: the name of a serializer must be an identifier, not"
    ):
        register_serializer(name, Pickled)


def test_a_type_error_of_a_serializer_is_an_encode_error_with_its_text() -> None:
    register_serializer("choosy", Choosy)

    with pytest.raises(EncodeError, match=r"^message\['a'\] is not to my taste$"):
        Codec(serializer_format="choosy", cipher=None).pack({"a": 1})


async def test_a_serializer_that_returns_no_bytes_is_told_to_the_sender() -> None:
    register_serializer("broken", Broken)
    layer = MemoryChannelLayer(serializer_format="broken")

    with pytest.raises(EncodeError, match=r"^the serializer 'broken' returned str, not bytes$"):
        await layer.send("channel", {"type": "x"})


def test_whatever_another_nodes_serializer_raises_is_a_decode_error_without_its_text() -> None:
    register_serializer("broken", Broken)
    frame = Codec(serializer_format="broken", cipher=None).encode_frame("n", [Envelope(Kind.GROUP, "room", 5.0, b"x")])

    with pytest.raises(DecodeError, match=r"cannot be repacked \(ZeroDivisionError\)$"):
        Codec(serializer_format="msgpack", cipher=None).decode_frame(frame)


def test_the_base_class_leaves_both_methods_to_its_subclasses() -> None:
    with pytest.raises(NotImplementedError):
        BaseMessageSerializer().as_bytes({})
    with pytest.raises(NotImplementedError):
        BaseMessageSerializer().from_bytes(b"")
