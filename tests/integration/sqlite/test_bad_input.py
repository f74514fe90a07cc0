"""Wrong names, messages and keys at the SQLite layer: the error a user sees, and that nothing else is harmed."""

import asyncio
import datetime
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from channels.exceptions import ChannelFull, MessageTooLarge

from channels_trunk.exceptions import EncodeError, TransportUnavailable, WrongProcess
from channels_trunk.layers import SQLiteChannelLayer
from channels_trunk.testing.commands import in_thread
from channels_trunk.testing.waiting import eventually
from tests.integration.sqlite.bad_input import BOUND, layers_closed, proves_itself, reaches
from tests.plugins.impatience import impatient

Call = Callable[[SQLiteChannelLayer], Awaitable[Any]]
X = {"type": "x"}
BAD_CHANNEL = "Channel name must be a valid unicode string with length < 100 containing only ASCII alphanumerics"
BAD_GROUP = "Group name must be a valid unicode string with length < 100 containing only ASCII alphanumerics"
A_NODE = "specific.tkaaaaaaaaaaaaaaaa!1"

NAMES: list[tuple[str, Call, type[Exception], str]] = [
    ("space in a channel", lambda layer: layer.send("a b", X), TypeError, f"{BAD_CHANNEL}, hyphens"),
    ("empty channel", lambda layer: layer.send("", X), TypeError, BAD_CHANNEL),
    ("channel of bytes", lambda layer: layer.send(b"a", X), TypeError, BAD_CHANNEL),  # type: ignore[arg-type]
    ("no channel", lambda layer: layer.send(None, X), TypeError, BAD_CHANNEL),  # type: ignore[arg-type]
    ("long channel", lambda layer: layer.send("x" * 100, X), TypeError, BAD_CHANNEL),
    ("newline in a channel", lambda layer: layer.send("a\n", X), TypeError, BAD_CHANNEL),
    ("two marks", lambda layer: layer.send("a!b!c", X), TypeError, BAD_CHANNEL),
    ("receive from nowhere", lambda layer: layer.receive("a b"), TypeError, BAD_CHANNEL),
    ("receive from None", lambda layer: layer.receive(None), TypeError, BAD_CHANNEL),  # type: ignore[arg-type]
    ("receive elsewhere", lambda layer: layer.receive(A_NODE), WrongProcess, "belongs to another process"),
    ("space in a prefix", lambda layer: layer.new_channel("a b"), TypeError, BAD_CHANNEL),
    ("long prefix", lambda layer: layer.new_channel("x" * 99), TypeError, BAD_CHANNEL),
    ("group with a mark", lambda layer: layer.group_send("a!b", X), TypeError, BAD_GROUP),
    ("empty group", lambda layer: layer.group_add("", "a"), TypeError, BAD_GROUP),
    ("group of numbers", lambda layer: layer.group_add(5, "a"), TypeError, BAD_GROUP),  # type: ignore[arg-type]
    ("member with a space", lambda layer: layer.group_add("a", "b c"), TypeError, BAD_CHANNEL),
    ("discard a space", lambda layer: layer.group_discard("a", "b c"), TypeError, BAD_CHANNEL),
    ("sync: channel", lambda layer: in_thread(lambda: layer.sync.send("a b", X)), TypeError, BAD_CHANNEL),
    ("sync: group", lambda layer: in_thread(lambda: layer.sync.group_send("a b", X)), TypeError, BAD_GROUP),
    ("sync: receive", lambda layer: in_thread(lambda: layer.sync.receive("a b", 1)), TypeError, BAD_CHANNEL),
]

MESSAGES: list[tuple[str, Any, type[Exception], str]] = [
    ("text", "opensesame", TypeError, "message must be a dict, not str"),
    ("bytes", b"opensesame", TypeError, "message must be a dict, not bytes"),
    ("nothing", None, TypeError, "message must be a dict, not NoneType"),
    ("list", [X], TypeError, "message must be a dict, not list"),
    (
        "object",
        {"type": "x", "user": {"it": object()}},
        EncodeError,
        "message['user']['it']: a value of type builtins.",
    ),
    ("set", {"ids": [{1, 2}]}, EncodeError, "message['ids'][0]: a value of type builtins.set cannot be packed"),
    ("exception", {"e": ValueError("opensesame")}, EncodeError, "message['e']: a value of type builtins.ValueError"),
    ("time zone", {"tz": datetime.UTC}, EncodeError, "message['tz']: a value of type datetime.timezone"),
    ("huge number", {"n": 10**30}, EncodeError, "message['n']: an integer outside the signed 64-bit range"),
    ("surrogate", {"s": "\ud83d"}, EncodeError, "message['s']: a string with lone surrogates"),
    ("number as key", {"rooms": {7: "x"}}, EncodeError, "message['rooms']: key 7 is not a string"),
    ("too large", {"type": "x", "text": "opensesame" * 1_000}, MessageTooLarge, "bytes; max_message_size is 5000"),
]


@pytest.mark.parametrize(("call", "kind", "text"), [row[1:] for row in NAMES], ids=[row[0] for row in NAMES])
async def test_bad_names(call: Call, kind: type[Exception], text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        layer, other = layers(path), layers(path)
        with pytest.raises(kind) as caught:
            await asyncio.wait_for(_started(call, layer), BOUND)
        assert type(caught.value) is kind
        assert text in str(caught.value)
        await reaches(layer, other)


async def _started(call: Call, layer: SQLiteChannelLayer) -> Any:
    # Some calls raise at once, and some when they are awaited.
    return await call(layer)


@pytest.mark.parametrize(("message", "kind", "text"), [row[1:] for row in MESSAGES], ids=[row[0] for row in MESSAGES])
async def test_bad_messages(
    message: Any, kind: type[Exception], text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        layer, other = layers(path, max_message_size=5000), layers(path)
        channel = await other.new_channel()
        calls: list[Call] = [
            lambda layer: layer.send("jobs", message),
            lambda layer: layer.send(channel, message),
            lambda layer: layer.group_send("room", message),
            lambda layer: in_thread(lambda: layer.sync.send("jobs", message)),
            lambda layer: in_thread(lambda: layer.sync.group_send("room", message)),
        ]
        for call in calls:
            with pytest.raises(kind) as caught:
                await asyncio.wait_for(_started(call, layer), BOUND)
            assert type(caught.value) is kind
            assert text in str(caught.value)
            assert "opensesame" not in str(caught.value)
        await reaches(layer, other)
        assert other.stats().skipped_frames_total == 0
    assert "opensesame" not in caplog.text


async def test_a_message_as_large_as_allowed_arrives_and_one_byte_more_does_not(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path, max_message_size=3_000_000), layers(path)
        channel = await there.new_channel()
        room = 3_000_000 - len(here._codec.pack({"data": b""})) - 3  # a long byte string has a longer head
        largest = {"data": bytes(room)}
        assert len(here._codec.pack(largest)) == 3_000_000
        await here.send(channel, largest)
        assert await asyncio.wait_for(there.receive(channel), BOUND) == largest
        with pytest.raises(MessageTooLarge, match="the packed message has 3000001 bytes; max_message_size is 3000000"):
            await here.send(channel, {"data": bytes(room + 1)})


async def test_a_full_channel(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        layer, other = layers(path, capacity=5), layers(path, capacity=5)
        for _ in range(5):
            await layer.send("jobs", X)
        for sender in (layer, other):
            with pytest.raises(ChannelFull, match=r"^jobs$"):
                await asyncio.wait_for(sender.send("jobs", X), BOUND)
        await reaches(layer, other)
        assert await other.receive("jobs") == X
        await layer.send("jobs", X)


# --- keys

KEYS = [
    ("other key", {"symmetric_encryption_keys": ["opensesame"]}, {"symmetric_encryption_keys": ["closebarley"]}),
    ("key against none", {"symmetric_encryption_keys": ["opensesame"]}, {}),
    ("none against key", {}, {"symmetric_encryption_keys": ["opensesame"]}),
]


@pytest.mark.parametrize(("left", "right"), [row[1:] for row in KEYS], ids=[row[0] for row in KEYS])
async def test_layers_with_one_prefix_and_different_keys_do_not_read_each_other(
    left: dict[str, Any], right: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, friend = layers(path, **left), layers(path, **left)
        stranger = layers(path, **right)
        channel = await stranger.new_channel()
        await stranger.group_add("room", channel)
        waiting = asyncio.create_task(stranger.receive(channel))
        await here.group_send("room", {"type": "secret", "text": "swordfish"})
        await here.send(channel, {"type": "secret", "text": "swordfish"})
        await eventually(lambda: stranger.stats().skipped_frames_total >= 2, within=BOUND)
        assert not waiting.done()
        # What needs an answer says so, in time.
        unanswered = r"another process did not answer within send_timeout=0\.5 s"
        with impatient(here, 0.5), pytest.raises(TransportUnavailable, match=unanswered):
            await asyncio.wait_for(here.group_add("room", channel), BOUND)
        await reaches(here, friend)
        await reaches(friend, here)
        await stranger.send(channel, X)
        assert await asyncio.wait_for(waiting, BOUND) == X
        await proves_itself(stranger)
    assert "a frame was skipped: " in caplog.text
    for secret in ("opensesame", "closebarley", "swordfish"):
        assert secret not in caplog.text


async def test_a_job_closed_with_another_key_is_counted_and_the_next_one_is_done(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        right = layers(path, symmetric_encryption_keys=["right"])
        wrong = layers(path, symmetric_encryption_keys=["wrong"])
        await wrong.send("jobs", {"type": "unreadable"})
        await right.send("jobs", X)
        assert await asyncio.wait_for(right.receive("jobs"), BOUND) == X
        assert right.stats().skipped_frames_total == 1


async def test_keys_are_rotated_under_running_layers(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        first, second, third = (
            layers(path, symmetric_encryption_keys=keys) for keys in (["old", "new"], ["new", "old"], ["old", "new"])
        )
        for sender in (first, second, third):
            for receiver in (first, second, third):
                await reaches(sender, receiver)
        assert {layer.stats().skipped_frames_total for layer in (first, second, third)} == {0}


async def test_different_formats_read_each_other_and_what_json_cannot_hold_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        packed, text = layers(path), layers(path, serializer_format="json")
        await reaches(packed, text)
        await reaches(text, packed)
        channel = await text.new_channel()
        await packed.send(channel, {"type": "x", "data": b"swordfish"})
        await eventually(lambda: text.stats().skipped_frames_total == 1, within=BOUND)
        await packed.send(channel, X)
        assert await asyncio.wait_for(text.receive(channel), BOUND) == X


async def test_layers_of_other_prefixes_in_one_file_are_strangers(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path, prefix="a"), layers(path, prefix="b")
        await here.send("jobs", X)
        await here.group_add("room", "jobs")
        await there.flush()
        with pytest.raises(TimeoutError):
            await in_thread(lambda: there.sync.receive("jobs", 0.2))
        assert await asyncio.wait_for(here.receive("jobs"), BOUND) == X
