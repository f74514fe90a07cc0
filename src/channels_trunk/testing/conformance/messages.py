"""Rules about what a message may hold and what arrives."""

import copy
import datetime
import decimal
import json
import uuid
from typing import Any

import pytest
from channels.exceptions import MessageTooLarge

from channels_trunk.testing.conformance.checks import assert_nothing_waits, refused
from channels_trunk.testing.conformance.rules import rule
from channels_trunk.testing.rig import Rig

SAMPLES: dict[str, dict[str, Any]] = {
    "no keys": {},
    "text": {"type": "chat.message", "text": "Ahoy-hoy!"},
    "empty values": {"text": "", "bytes": b"", "list": [], "dict": {}, "none": None, "zero": 0, "false": False},
    "unicode": {
        "text": "Gr\u00fc\u00dfe \u4f60\u597d \U0001f600 e\u0301 \u0000 \u2028 \uffff",
        "\u043a\u043b\u044e\u0447": 1,
    },
    "bytes": {"data": bytes(range(256)), "more": [b"\x00", b"\xff" * 1000]},
    "64-bit integers": {"numbers": [-(2**63), 2**63 - 1, -1, 0, 1, 2**31, 2**32, 2**53 + 1]},
    "floats": {"numbers": [0.1, -0.5, 1e308, 5e-324, 1 / 3, 2.0]},
    "booleans": {"yes": True, "no": False, "list": [True, 1, False, 0]},
    "nested": {"a": [{"b": [[], [{"c": {"d": [1, [2, [3, {"e": None}]]]}}]]}]},
    "deeply nested": {"list": [[[[[[[[[[[[[[[[[[[["deep"]]]]]]]]]]]]]]]]]]]]},
    "long list": {"list": list(range(10_000))},
    "keys that layers use": {"channel": "x", "group": "y", "expires_at": 0, "type": "z", "__type__": "w"},
}
JSON_SAMPLES = [name for name in SAMPLES if name not in ("empty values", "bytes")]
UNPACKABLE: list[Any] = [
    object(),
    len,
    {1, 2},
    1 + 2j,
    2**64,
    -(2**63) - 1,
    {1: "an integer as key"},
    {b"bytes": "as key"},
    "a lone surrogate: \ud800",
]
RICH: list[Any] = [
    datetime.datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=datetime.UTC),
    datetime.datetime(2024, 2, 29, 12, 30),  # noqa: DTZ001 - a naive one is a case of its own
    datetime.date(2024, 2, 29),
    uuid.UUID("12345678-1234-5678-1234-567812345678"),
    decimal.Decimal("10.50"),
]
MEGABYTE = {"numbers": list(range(100_000)), "text": "\u00e4" * 250_000}


class MessageRules:
    """Messages."""

    @pytest.mark.parametrize("sample", SAMPLES)
    @rule("groups")
    async def test_message_arrives_as_it_was_sent(self, rig: Rig, sample: str) -> None:
        """Every type of the specification arrives equal: by a normal channel, a specific one, and a group."""
        here = rig.here()
        await self._passes(SAMPLES[sample], rig=rig, sender=here, reader=here)

    @rule("groups", peers=True)
    async def test_message_arrives_elsewhere_as_it_was_sent(self, rig: Rig) -> None:
        """What arrives at another node is the same."""
        here, there = rig.here(), await rig.peer()
        for sample in SAMPLES.values():
            await self._passes(sample, rig=rig, sender=here, reader=there)

    @rule("groups", "json", peers=True)
    async def test_json_message_arrives_as_it_was_sent(self, rig: Rig) -> None:
        """With serializer_format "json", all that JSON can hold arrives equal."""
        here, there = rig.here(serializer_format="json"), await rig.peer(serializer_format="json")
        for name in JSON_SAMPLES:
            await self._passes(SAMPLES[name], rig=rig, sender=here, reader=there)

    @rule()
    async def test_tuple_arrives_as_a_list(self, rig: Rig) -> None:
        """The specification: tuples should be encoded as lists."""
        here = rig.here()
        channel = await here.new_channel()
        await here.send(channel, {"type": "tuples", "pair": (1, (2, 3)), "none": ()})
        assert await here.receive(channel) == {"type": "tuples", "pair": [1, [2, 3]], "none": []}

    @rule("groups", peers=True)
    async def test_one_megabyte_of_json_arrives(self, rig: Rig) -> None:
        """All layers must support messages of 1 MB as JSON."""
        assert len(json.dumps(MEGABYTE)) > 2**20
        here, there = rig.here(), await rig.peer()
        await self._passes(MEGABYTE, rig=rig, sender=here, reader=there)
        await self._passes(MEGABYTE, rig=rig, sender=here, reader=here)

    @rule("groups")
    async def test_senders_message_is_left_alone(self, rig: Rig) -> None:
        """send() and group_send() do not change the dict they are given."""
        here = rig.here()
        (channel,) = await here.join(rig.name("group"))
        message = {"type": "original", "list": [1, {"a": (1, 2)}]}
        before = copy.deepcopy(message)
        await here.send(channel, message)
        await here.group_send(rig.name("group"), message)
        await here.collect(channel, count=2)
        assert message == before

    @rule()
    async def test_change_after_send_is_not_seen(self, rig: Rig) -> None:
        """What the sender does to its dict afterwards stays its own."""
        here = rig.here()
        channel = await here.new_channel()
        message: dict[str, Any] = {"type": "original", "list": [{"a": 1}]}
        await here.send(channel, message)
        message["list"][0]["a"] = 2
        message["type"] = "changed"
        assert await here.receive(channel) == {"type": "original", "list": [{"a": 1}]}

    @rule("groups")
    async def test_each_member_has_its_own_copy(self, rig: Rig) -> None:
        """What one receiver does to its message is not seen by another, nor by the sender."""
        here = rig.here()
        one, two = await here.join(rig.name("group"), count=2)
        message = {"type": "shared", "list": [{"a": 1}]}
        await here.group_send(rig.name("group"), message)
        first = await here.receive(one)
        first["list"][0]["a"] = 2
        first["more"] = True
        assert await here.receive(two) == {"type": "shared", "list": [{"a": 1}]}
        assert message == {"type": "shared", "list": [{"a": 1}]}

    @rule("rich_values", peers=True)
    async def test_text_and_numbers_of_django_arrive_plain(self, rig: Rig) -> None:
        """Safe strings, lazy strings, choices and other subclasses arrive as the plain value that they stand for."""
        here, there = rig.here(), await rig.peer()
        message, expected = _django_values()
        for reader in (here, there):
            channel = await reader.new_channel()
            await here.send(channel, message)
            got = await reader.receive(channel)
            assert got == expected
            assert [type(value) for value in got["list"]] == [str, str, str, int, int]

    @rule("rich_values", peers=True)
    async def test_dates_uuids_and_decimals_arrive(self, rig: Rig) -> None:
        """They arrive as they were sent, here and elsewhere alike, in lists and dicts too."""
        here, there = rig.here(), await rig.peer()
        for reader in (here, there):
            channel = await reader.new_channel()
            for value in RICH:
                await here.send(channel, {"type": "rich", "value": value, "deep": [{"value": value}]})
                assert await reader.receive(channel) == {"type": "rich", "value": value, "deep": [{"value": value}]}

    @rule("refuses_unpackable", "groups")
    async def test_unpackable_value_raises_type_error(self, rig: Rig) -> None:
        """It is refused when it is sent, by a TypeError that names its path; nothing of it arrives."""
        here = rig.here()
        (channel,) = await here.join(rig.name("group"))
        for value in UNPACKABLE:
            message = {"type": "bad", "list": ["fine", {"inner": value}]}
            with refused(value, match=r"list.*1.*inner"):
                await here.send(channel, message)
            with refused(value, match=r"list.*1.*inner"):
                await here.group_send(rig.name("group"), message)
        await assert_nothing_waits(here, channel)

    @rule("groups")
    async def test_message_that_is_no_dict_raises_type_error(self, rig: Rig) -> None:
        """Messages must be a dict."""
        here = rig.here()
        channel = await here.new_channel()
        wrong: list[Any] = [None, "text", b"bytes", ["list"], 5]
        for message in wrong:
            with refused(message):
                await here.send(channel, message)
            with refused(message):
                await here.group_send(rig.name("group"), message)

    @rule("message_size", "groups")
    async def test_message_too_large_is_refused(self, rig: Rig) -> None:
        """Beyond max_message_size, send() and group_send() raise MessageTooLarge; below it, they work."""
        here = rig.here(max_message_size=10_000)
        (channel,) = await here.join(rig.name("group"))
        too_large = {"type": "large", "data": b"x" * 10_001}
        with pytest.raises(MessageTooLarge):
            await here.group_send(rig.name("group"), too_large)
        for kind in await rig.each_kind(here):
            with pytest.raises(MessageTooLarge):
                await here.send(kind, too_large)
        await here.send(channel, {"type": "fits", "data": b"x" * 9_000})
        assert (await here.receive(channel))["type"] == "fits"

    async def _passes(self, message: dict[str, Any], *, rig: Rig, sender: Any, reader: Any) -> None:
        channels, group = await rig.each_kind(reader), rig.name("group")
        specific = channels[0]
        await reader.group_add(group, specific)
        for channel in channels:
            await sender.send(channel, message)
        await sender.group_send(group, message)
        for channel in (*channels, specific):
            got = await reader.receive(channel)
            assert got == message
            assert _types(got) == _types(message)
        await reader.group_discard(group, specific)


def _types(value: Any) -> Any:
    # True == 1 == 1.0: equality alone would not tell them apart.
    if isinstance(value, dict):
        return {key: _types(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_types(item) for item in value]
    return type(value)


def _django_values() -> tuple[dict[str, Any], dict[str, Any]]:
    from django.db.models import IntegerChoices, TextChoices
    from django.utils.functional import lazystr
    from django.utils.safestring import mark_safe

    class Colour(TextChoices):
        RED = "red"

    class Size(IntegerChoices):
        LARGE = 3

    class Count(int):
        pass

    values = [mark_safe("<b>safe</b>"), lazystr("lazy"), Colour.RED, Size.LARGE, Count(7)]
    plain = ["<b>safe</b>", "lazy", "red", 3, 7]
    message = {"type": "django", "list": values, mark_safe("key"): lazystr("value")}
    return message, {"type": "django", "list": plain, "key": "value"}
