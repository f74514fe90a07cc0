"""The chat without a browser: both servers, killed processes, hostile clients."""

import asyncio
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from channels_trunk.testing import eventually
from tests.acceptance.guest import connected, entered
from tests.acceptance.processes import CHAT, Chat, Program, chat

SOON = 15.0  # much longer than anything here takes, much shorter than the tests' own limit


@pytest.fixture(scope="module", params=["uvicorn", "daphne"])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    with chat(tmp_path_factory.mktemp(request.param), "--server", request.param) as running_chat:
        yield running_chat


async def test_a_message_crosses_the_processes(demo: Chat, room: str) -> None:
    async with (
        asyncio.timeout(SOON),
        entered(demo.addresses["A"], room=room, name="Ada") as ada,
        entered(demo.addresses["B"], room=room, name="Bo") as bo,
    ):
        for number in range(16):
            speaker, through = ((ada, "A"), (bo, "B"))[number % 2]
            text = f"line {number} & <b>so on</b> \N{GAME DIE}"
            await speaker.say(text)
            for listener in (ada, bo):
                said = await listener.hear("said")
                assert (said["text"], said["server"]) == (text, through)


async def test_who_is_here_is_known_in_both_processes(demo: Chat, room: str) -> None:
    async with asyncio.timeout(SOON), entered(demo.addresses["A"], room=room, name="Ada") as ada:
        async with entered(demo.addresses["B"], room=room, name="Bo") as bo:
            await ada.see("Ada", "Bo")
            await bo.see("Ada", "Bo")
            async with entered(demo.addresses["B"], room=f"{room}-2", name="Cy") as cy:
                await cy.see("Cy")
        await ada.see("Ada")


async def test_a_tab_that_comes_back_at_the_other_process_is_the_same_person(demo: Chat, room: str) -> None:
    key = uuid4().hex
    async with (
        asyncio.timeout(SOON),
        entered(demo.addresses["A"], room=room, name="Ada") as ada,
        entered(demo.addresses["A"], room=room, name="Bo", key=key),
        entered(demo.addresses["B"], room=room, name="Bo", key=key) as again,
    ):
        await again.see("Ada", "Bo")  # and not Bo twice
        await ada.see("Ada", "Bo")


async def test_the_worker_answers_the_room(demo: Chat, room: str) -> None:
    async with (
        asyncio.timeout(SOON),
        entered(demo.addresses["A"], room=room, name="Ada") as ada,
        entered(demo.addresses["B"], room=room, name="Bo") as bo,
    ):
        await ada.say("/roll 2d6")
        rolled = await bo.hear("rolled", name="Ada", dice="2d6", worker=demo.pid("worker"))
        assert await ada.hear("rolled", id=rolled["id"]) == rolled
        assert rolled["total"] == sum(rolled["rolls"])


async def test_a_roll_waits_for_the_next_worker(demo: Chat, room: str) -> None:
    async with asyncio.timeout(SOON * 2), entered(demo.addresses["A"], room=room, name="Ada") as ada:
        with demo.nothing_restarted():
            killed = demo.kill("worker")
            await ada.say("/roll d20")
            await ada.hear("said", text="/roll d20")
        rolled = await ada.hear("rolled", dice="1d20")
        assert rolled["worker"] == demo.pid("worker") != killed


async def test_any_process_of_the_project_can_talk_to_the_room(demo: Chat, room: str, tmp_path: Path) -> None:
    send = f"get_channel_layer().sync.group_send('chat.room.{room}', {{'type': 'chat.gap'}})"
    command = [sys.executable, str(CHAT / "manage.py"), "shell", "-c"]
    surroundings = {"CHAT_DATA_DIR": str(demo.data)}
    async with asyncio.timeout(SOON), entered(demo.addresses["B"], room=room, name="Bo") as bo:
        shell = Program(
            [*command, f"from channels.layers import get_channel_layer; {send}"],
            log=tmp_path / "shell.log",
            cwd=tmp_path,
            environment=surroundings,
        )
        await bo.hear("notice", text="Some messages may be missing here.")
        await eventually(shell.has_ended, within=SOON)
        assert shell.process.returncode == 0, shell.output


async def test_people_of_a_killed_process_are_gone_in_seconds(demo: Chat, room: str) -> None:
    async with asyncio.timeout(SOON * 2), entered(demo.addresses["A"], room=room, name="Ada") as ada:
        async with entered(demo.addresses["B"], room=room, name="Bo") as bo:
            await ada.see("Ada", "Bo")
            killed = demo.kill("server-b")
            with pytest.raises(ConnectionClosed):
                await bo.hear("nothing more")
        await ada.see("Ada")
        await eventually(lambda: demo.has_successor("server-b", of=killed), within=SOON)
        async with entered(demo.addresses["B"], room=room, name="Bo") as bo:
            await ada.see("Ada", "Bo")
            await bo.say("Back")
            await ada.hear("said", text="Back", server="B")


async def test_the_room_outlives_the_layers_file(demo: Chat, room: str) -> None:
    async with (
        asyncio.timeout(SOON * 2),
        entered(demo.addresses["A"], room=room, name="Ada") as ada,
        entered(demo.addresses["B"], room=room, name="Bo") as bo,
    ):
        for path in demo.data.glob("chat.channels.sqlite3*"):
            if not path.is_socket():
                path.unlink()
        for guest in (ada, bo):  # a moment later both processes have noticed, and say so
            await guest.hear("notice", text="Some messages may be missing here.")
        await ada.say("Whatever happened?")
        await bo.hear("said", text="Whatever happened?")
        await bo.say("/roll 2d6")
        await ada.hear("rolled", name="Bo")


@pytest.mark.parametrize(
    ("room_name", "query"),
    [
        ("Bad_Room", {"name": "Ada", "key": "0123456789"}),
        ("-", {"name": "Ada", "key": "0123456789"}),
        ("r" * 33, {"name": "Ada", "key": "0123456789"}),
        ("lobby", {"name": "", "key": "0123456789"}),
        ("lobby", {"name": "A" * 25, "key": "0123456789"}),
        ("lobby", {"name": "<b>Ada</b>", "key": "0123456789"}),
        ("lobby", {"name": "Ada\u202egnilleps", "key": "0123456789"}),
        ("lobby", {"name": "Ada"}),
        ("lobby", {"name": "Ada", "key": "short"}),
    ],
)
async def test_bad_names_are_refused_for_good(demo: Chat, room_name: str, query: dict[str, str]) -> None:
    async with asyncio.timeout(SOON), connected(demo.addresses["A"], room=room_name, **query) as guest:
        await guest.hear("notice")
        with pytest.raises(ConnectionClosed) as closed:
            await guest.hear("anything else")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4400


@pytest.mark.parametrize(
    "frame",
    [
        *("", "{", "[]", "null", "7", '"text"', "[" * 9000, b"binary", "x" * 20_000),
        *('{"type": "say"}', '{"type": "say", "text": 7}', '{"type": "say", "text": "  "}', '{"type": ["say"]}'),
        *('{"type": "say", "text": "\\ud800"}', '{"type": "say", "text": "/unknown"}', '{"type": "chat.said"}'),
        json.dumps({"type": "say", "text": "y" * 2001}),
    ],
)
async def test_nonsense_is_answered_and_harms_nobody(demo: Chat, room: str, frame: str | bytes) -> None:
    async with (
        asyncio.timeout(SOON),
        entered(demo.addresses["A"], room=room, name="Ada") as ada,
        entered(demo.addresses["B"], room=room, name="Bo") as bo,
    ):
        await ada.socket.send(frame)
        await ada.hear("notice")
        await ada.say("Still here")
        await bo.hear("said", text="Still here")
        assert [message["text"] for message in bo.heard if message["type"] == "said"] == ["Still here"]


async def test_a_flood_is_stopped_at_its_source(demo: Chat, room: str) -> None:
    async with (
        asyncio.timeout(SOON),
        entered(demo.addresses["A"], room=room, name="Ada") as ada,
        entered(demo.addresses["B"], room=room, name="Bo") as bo,
    ):
        began = time.monotonic()
        for number in range(40):
            await ada.say(f"flood {number}")
        await ada.hear("notice", text="Slowly, please: that was a lot of messages at once.")
        await bo.say("enough")
        await bo.hear("said", text="enough")
        # Ten in five seconds, which may pass meanwhile on a loaded machine.
        allowed = 10 * (1 + (time.monotonic() - began) // 5)
        assert sum(message["type"] == "said" for message in bo.heard) <= allowed + 1


async def test_pages_of_other_sites_get_no_socket(demo: Chat, room: str) -> None:
    guest = connected(demo.addresses["A"], room=room, origin="http://evil.example", name="Ada", key="0123456789")
    with pytest.raises(InvalidStatus) as refused:
        await guest.__aenter__()
    assert refused.value.response.status_code == 403


def test_other_host_names_get_no_page(demo: Chat) -> None:
    request = urllib.request.Request(demo.addresses["A"], headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=SOON)
    with refused.value as answer:
        assert answer.code == 400
