"""Corrupt rows: counted, said, and skipped; the reader goes on, and so does everybody else."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from channels_trunk.codec import Codec
from channels_trunk.codec.codec import FRAME_VERSION
from channels_trunk.envelope import EVERY_NODE, Control, ControlOp, Envelope, Kind
from channels_trunk.layers import SQLiteChannelLayer
from channels_trunk.testing.commands import in_thread
from channels_trunk.testing.waiting import eventually
from tests.integration.sqlite.bad_input import BOUND, layers_closed, proves_itself, reaches

CODEC = Codec(serializer_format="msgpack", cipher=None)
GOOD = {"type": "good"}

HEAD = bytes((FRAME_VERSION, 0, 4)) + b"asgi"

GARBAGE: dict[str, Any] = {
    "empty": b"",
    "one byte": b"\x01",
    "zeros": bytes(500),
    "text in bytes": b"opensesame " * 50,
    "text": "opensesame",
    "empty text": "",
    "number": 17,
    "real": 1.5,
    "unknown version": bytes((FRAME_VERSION + 1, 0, 4)) + b"asgi\x93\xa1n\xa7msgpack\x90",
    "unknown encryption": bytes((FRAME_VERSION, 9)) + b"rest",
    "truncated": CODEC.encode_frame("n", [Envelope(Kind.GROUP, "room", 2e9, b"body")])[:-3],
    "encrypted for others": bytes((FRAME_VERSION, 1)) + b"gAAAAABopensesame",
    "another shape": HEAD + msgspec.msgpack.encode({"origin": "n"}),
    "unknown serializer": HEAD + msgspec.msgpack.encode(("n", "pickle", [])),
    "no prefix": bytes((FRAME_VERSION, 0)) + msgspec.msgpack.encode(("n", "msgpack", [])),
    "another prefix": Codec(serializer_format="msgpack", cipher=None, prefix="other").encode_frame("n", []),
}


def _execute(path: Path, statement: str, *rows: Sequence[Any]) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection, connection:
        connection.executemany(statement, rows)


def _add_to_log(path: Path, frame: Any, *, expires_at: Any = None) -> None:
    """As another process would: all that readers see of it is the row."""
    expires = time.time() + 60 if expires_at is None else expires_at
    _execute(
        path,
        "INSERT INTO trunk_log (prefix, origin, expires_at, frame) VALUES (?, ?, ?, ?)",
        ("asgi", "x", expires, frame),
    )


def _add_to_queue(path: Path, channel: str, frame: Any, *, expires_at: Any = None) -> None:
    expires = time.time() + 60 if expires_at is None else expires_at
    _execute(
        path,
        "INSERT INTO trunk_queue (prefix, channel, expires_at, frame) VALUES (?, ?, ?, ?)",
        ("asgi", channel, expires, frame),
    )
    _execute(
        path,
        "INSERT INTO trunk_depth (prefix, channel, depth) VALUES (?, ?, 1) "
        "ON CONFLICT (prefix, channel) DO UPDATE SET depth = depth + 1",
        ("asgi", channel),
    )


def _frame(*envelopes: Envelope) -> bytes:
    return CODEC.encode_frame("somebody", list(envelopes))


async def _skips(layer: SQLiteChannelLayer, count: int) -> None:
    await eventually(lambda: layer.stats().skipped_frames_total >= count, within=BOUND)


@pytest.mark.parametrize("frame", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_in_the_log_is_counted_and_skipped(
    frame: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path), layers(path)
        await reaches(there, here)
        _add_to_log(path, frame)
        await reaches(there, here)
        await _skips(here, 1)
        await _skips(there, 1)
        assert here.stats().skipped_frames_total == 1
        assert here.stats().gaps_total == 0
    assert caplog.text.count("a frame was skipped: ") == 2  # each of the two says it once
    assert "opensesame" not in caplog.text


@pytest.mark.parametrize("frame", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_in_a_queue_is_counted_and_skipped(
    frame: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        layer = layers(path)
        await layer.send("jobs", {"type": "before"})
        _add_to_queue(path, "jobs", frame)
        await layer.send("jobs", GOOD)
        async with asyncio.timeout(BOUND):
            assert await layer.receive("jobs") == {"type": "before"}
            assert await layer.receive("jobs") == GOOD
        assert layer.stats().skipped_frames_total == 1
        await proves_itself(layer)
    assert "opensesame" not in caplog.text


async def test_a_receiver_that_waits_gets_the_good_message_behind_much_garbage(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        layer, other = layers(path), layers(path)
        await other.new_channel()
        receiver = asyncio.create_task(layer.receive("jobs"))
        await proves_itself(layer)
        for _ in range(50):
            _add_to_queue(path, "jobs", b"rubbish")
        await other.send("jobs", GOOD)
        assert await asyncio.wait_for(receiver, BOUND) == GOOD
        await _skips(layer, 50)


@pytest.mark.parametrize("expires_at", ["soon", b"soon", "", float("inf")], ids=repr)
async def test_an_expiry_of_a_wrong_type_harms_nobody(expires_at: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path), layers(path)
        await reaches(there, here)
        own = Envelope(Kind.QUEUE, "jobs", time.time() + 60, CODEC.pack({"type": "odd"}))
        _add_to_log(path, _frame(), expires_at=expires_at)
        _add_to_queue(path, "jobs", _frame(own), expires_at=expires_at)
        await there.send("jobs", GOOD)
        async with asyncio.timeout(BOUND):
            got = await here.receive("jobs")
            if got == {"type": "odd"}:
                got = await here.receive("jobs")
        assert got == GOOD
        await there.clean_expired()
        await reaches(there, here)
        await reaches(here, there)


BODIES = [
    b"",
    b"\xc1",
    b"opensesame",
    b"\x93\x01\x02\x03",
    b"\x81\x01\x02",
    b"\x81\xa1a\xa1\xff",
    b"\x81\xa1a" * 100_000,
]


@pytest.mark.parametrize("body", BODIES, ids=[repr(body[:12]) for body in BODIES])
async def test_a_good_frame_around_a_malformed_message_is_skipped_by_the_receiver(
    body: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.sqlite3"
    expires_at = time.time() + 60
    async with layers_closed() as layers:
        layer = layers(path)
        channel = await layer.new_channel()
        for name in (channel, "jobs"):
            waiting = asyncio.create_task(layer.receive(name))
            if name == channel:
                _add_to_log(path, _frame(Envelope(Kind.MAILBOX, channel, expires_at, body)))
            else:
                _add_to_queue(path, "jobs", _frame(Envelope(Kind.QUEUE, "jobs", expires_at, body)))
            await _skips(layer, 1 if name == channel else 2)
            assert not waiting.done()
            await layer.send(name, GOOD)
            assert await asyncio.wait_for(waiting, BOUND) == GOOD
    assert "opensesame" not in caplog.text


async def test_a_malformed_message_does_not_lengthen_a_blocking_receive(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        layer = layers(path)
        await layer.new_channel()
        _add_to_queue(path, "jobs", _frame(Envelope(Kind.QUEUE, "jobs", time.time() + 60, b"rubbish")))
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await in_thread(lambda: layer.sync.receive("jobs", 0.3))
        assert 0.3 <= time.monotonic() - started < BOUND
        assert layer.stats().skipped_frames_total == 1


ODD_ENVELOPES = {
    "unknown kind": Envelope(99, "room", 2e9, b"body"),
    "group with a bad name": Envelope(Kind.GROUP, "no group!", 2e9, CODEC.pack(GOOD)),
    "mailbox with a bad name": Envelope(Kind.MAILBOX, "no channel", 2e9, CODEC.pack(GOOD)),
    "queue in the log": Envelope(Kind.QUEUE, "jobs", 2e9, CODEC.pack(GOOD)),
    "expiry that is no number": Envelope(Kind.GROUP, "room", float("nan"), CODEC.pack(GOOD)),
    "control that is garbage": Envelope(Kind.CONTROL, EVERY_NODE, 2e9, b"garbage"),
    "control that is no utf-8": Envelope(Kind.CONTROL, EVERY_NODE, 2e9, b"\x92\x01\xa1\xff"),
    "control of a later version": Envelope(Kind.CONTROL, EVERY_NODE, 2e9, CODEC.pack_control(Control(99, "x"))),
    "join of a bad name": Envelope(
        Kind.CONTROL, EVERY_NODE, 2e9, CODEC.pack_control(Control(ControlOp.JOIN, "x", 1, "no channel", "no group"))
    ),
    "leave of a bad name": Envelope(
        Kind.CONTROL, EVERY_NODE, 2e9, CODEC.pack_control(Control(ControlOp.LEAVE, "x", 1, "no channel", "no group"))
    ),
    "report of a bad name": Envelope(
        Kind.CONTROL, EVERY_NODE, 2e9, CODEC.pack_control(Control(ControlOp.REPORT, "x", 1, "no channel"))
    ),
    "answer to nothing": Envelope(
        Kind.CONTROL, EVERY_NODE, 2e9, CODEC.pack_control(Control(ControlOp.DONE, "x", 10**9))
    ),
    "room without end": Envelope(
        Kind.CONTROL, EVERY_NODE, 2e9, CODEC.pack_control(Control(ControlOp.ROOM, "x", 1, "a!b", "", 2**62))
    ),
}


@pytest.mark.parametrize("envelope", ODD_ENVELOPES.values(), ids=ODD_ENVELOPES.keys())
async def test_an_odd_envelope_keeps_nothing_behind_it_from_coming(envelope: Envelope, tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path), layers(path)
        await reaches(there, here)
        channel = await here.new_channel()
        behind = Envelope(Kind.MAILBOX, channel, time.time() + 60, CODEC.pack(GOOD))
        # In two frames: an envelope without a valid target spoils the frame that it is in.
        _add_to_log(path, _frame(envelope))
        _add_to_log(path, _frame(behind))
        assert await asyncio.wait_for(here.receive(channel), BOUND) == GOOD
        await reaches(there, here)
        await reaches(here, there)


ODD_TABLES = {
    "nodes: watching": "UPDATE trunk_nodes SET watching = 'rubbish'",
    "nodes: watching of another shape": "UPDATE trunk_nodes SET watching = '{\"a\": 1}'",
    "nodes: watching a number": "UPDATE trunk_nodes SET watching = 17",
    "nodes: position": "UPDATE trunk_nodes SET position = 'rubbish'",
    "nodes: heard of": "UPDATE trunk_nodes SET seen_at = 'rubbish'",
    "nodes: doorbell": "UPDATE trunk_nodes SET doorbell = '/no/such/place'",
    "nodes: doorbell of bytes": "UPDATE trunk_nodes SET doorbell = x'00ff'",
    "nodes: clock": "UPDATE trunk_nodes SET clock = 'rubbish'",
    "nodes: clock without end": "UPDATE trunk_nodes SET clock = 9e999",
    "nodes: a stranger": "INSERT INTO trunk_nodes VALUES ('x y', 'asgi', char(0), 'x', 'y', 'z', 'w', 'v')",
    "members: expiry": "INSERT INTO trunk_members VALUES ('asgi', 'room', 'a-channel', 'rubbish')",
    "members: names": "INSERT INTO trunk_members VALUES ('asgi', 'room', 'no channel', 2e9)",
    "members: bytes": "INSERT INTO trunk_members VALUES ('asgi', x'ff', x'00', 2e9)",
    "depth: text": "INSERT OR REPLACE INTO trunk_depth VALUES ('asgi', 'a-normal-channel', 'rubbish')",
    "depth: too large": "INSERT OR REPLACE INTO trunk_depth VALUES ('asgi', 'a-normal-channel', 99)",
    "depth: below zero": "INSERT OR REPLACE INTO trunk_depth VALUES ('asgi', 'a-normal-channel', -99)",
    "meta: generation gone": "DELETE FROM trunk_meta WHERE name = 'generation'",
    "meta: generation of text": "UPDATE trunk_meta SET value = 'rubbish' WHERE name = 'generation'",
    "meta: version gone": "DELETE FROM trunk_meta WHERE name = 'schema_version'",
}


async def reaches_or_is_told(sender: SQLiteChannelLayer, receiver: SQLiteChannelLayer) -> None:
    """Who seems to have no socket is taken for dead. What that costs is told, and then it is reached again."""
    while True:
        try:
            async with asyncio.timeout(15):
                return await reaches(sender, receiver)
        except TimeoutError:
            assert receiver.stats().gaps_total


@pytest.mark.timeout(240)
@pytest.mark.parametrize("statement", ODD_TABLES.values(), ids=ODD_TABLES.keys())
async def test_rubbish_in_the_other_tables_stops_nobody(statement: str, tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path), layers(path)
        await reaches(there, here)
        _execute(path, statement, ())
        _execute(path, "UPDATE trunk_meta SET value = value + 1 WHERE name = 'generation'", ())
        await reaches_or_is_told(there, here)
        await reaches_or_is_told(here, there)
        await there.clean_expired()
        await proves_itself(here)
        # Whoever comes later finds its way as well.
        later = layers(path)
        await reaches_or_is_told(later, here)
        await reaches_or_is_told(here, later)


async def test_nodes_that_were_deleted_come_back_and_say_what_they_may_have_missed(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    async with layers_closed() as layers:
        here, there = layers(path, gap_event="gap"), layers(path)
        await reaches(there, here)
        channel = await here.new_channel()
        await here.group_add("room", channel)
        _execute(path, "DELETE FROM trunk_nodes", ())
        _execute(path, "UPDATE trunk_meta SET value = value + 1 WHERE name = 'generation'", ())
        assert await asyncio.wait_for(here.receive(channel), BOUND) == {"type": "gap"}
        await eventually(lambda: there.stats().gaps_total == 1, within=BOUND)
        assert here.stats().gaps_total == 1
        await reaches(there, here)
        await reaches(here, there)
