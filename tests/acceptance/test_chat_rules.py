"""The chat's rules that need no server: names, dice, the board of who is here, free ports."""

import importlib
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.acceptance.processes import CHAT


def example(module: str) -> Any:
    """One of the example's modules: it is a project of its own, and not on the path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(CHAT))
        return importlib.import_module(module)


names = example("rooms.names")
dice = example("rooms.dice")
presence = example("rooms.presence")
run = example("run")


@pytest.mark.parametrize(
    ("raw", "clean"), [("lobby", "lobby"), (" #Lobby ", "lobby"), ("a", "a"), ("games-night-2", "games-night-2")]
)
def test_a_room_has_one_spelling(raw: str, clean: str) -> None:
    assert names.clean_room(raw) == clean


@pytest.mark.parametrize("raw", ["", "#", "-a", "a-", "a b", "a/b", "ä", "a" * 33, "a\nb", "a.b"])
def test_other_rooms_are_refused(raw: str) -> None:
    with pytest.raises(names.RefusedError):
        names.clean_room(raw)


@given(st.text())
def test_any_room_that_is_taken_makes_a_valid_group(raw: str) -> None:
    try:
        group = names.room_group(names.clean_room(raw))
    except names.RefusedError:
        return
    assert group.isascii()
    assert set(group) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    assert len(group) < 100


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Ada", "Ada"),
        ("  Ada   Lovelace ", "Ada Lovelace"),
        ("Zoe\u0308", "Zoë"),
        ("O'Neill-2.", "O'Neill-2."),
        ("山田", "山田"),
    ],
)
def test_a_name_has_one_spelling(raw: str, clean: str) -> None:
    assert names.clean_name(raw) == clean


@pytest.mark.parametrize(
    "raw", ["", " ", "a" * 25, "<b>", "Ada\u202eeve", "Ada\u200b", "\ud800", "-Ada", "Ada\0", "a@b"]
)
def test_other_names_are_refused(raw: str) -> None:
    with pytest.raises(names.RefusedError):
        names.clean_name(raw)


def test_a_persons_id_tells_nothing_of_the_key() -> None:
    key = "0123456789abcdef"
    assert names.person_id(key) == names.person_id(key) != names.person_id(key + "0")
    assert key not in names.person_id(key)


@pytest.mark.parametrize(
    ("notation", "text"),
    [("", "1d6"), ("2d6", "2d6"), ("D20", "1d20"), (" 3d8 + 2 ", "3d8+2"), ("20d1000-9999", "20d1000-9999")],
)
def test_dice_are_read(notation: str, text: str) -> None:
    assert str(dice.Dice.parse(notation)) == text


@pytest.mark.parametrize(
    "notation", ["0d6", "21d6", "2d1", "2d1001", "d", "2", "2d", "two", "2d6+", "2d6 2", "-1d6", "²d6", "1" * 9]
)
def test_other_dice_are_refused(notation: str) -> None:
    with pytest.raises(names.RefusedError):
        dice.Dice.parse(notation)


@given(st.integers(1, 20), st.integers(2, 1000))
def test_each_die_shows_one_of_its_sides(count: int, sides: int) -> None:
    rolls = dice.Dice(count, sides).roll()
    assert len(rolls) == count
    assert all(1 <= roll <= sides for roll in rolls)


def person(name: str, *, server: str = "A") -> Any:
    return presence.Person(id=name.lower(), name=name, server=server)


def test_the_board_shows_the_people_of_all_processes() -> None:
    board = presence.Board()
    board.own["lobby"] = {"channel-1": person("Bo")}
    board.heard("other", {"lobby": {"ada": person("ada", server="B")}, "den": {}}, now=10)
    assert [(found.name, found.server) for found in board.people("lobby")] == [("ada", "B"), ("Bo", "A")]
    assert board.people("elsewhere") == []


def test_whoever_moved_between_processes_is_shown_once() -> None:
    board = presence.Board()
    board.heard("gone", {"lobby": {"ada": person("Ada", server="B")}}, now=10)
    board.own["lobby"] = {"channel-1": person("Ada"), "channel-2": person("Ada")}
    assert board.people("lobby") == [person("Ada")]


def test_a_silent_desk_is_forgotten_and_a_farewell_is_heard() -> None:
    board = presence.Board()
    for desk in ("killed", "alive"):
        board.heard(desk, {"lobby": {desk: person(desk)}}, now=10)
    board.heard("alive", {"lobby": {"alive": person("alive")}}, now=10 + presence.FORGET_AFTER)
    board.forget_silent(now=10 + presence.FORGET_AFTER)
    assert len(board.people("lobby")) == 2  # not yet
    board.forget_silent(now=10.1 + presence.FORGET_AFTER)
    assert [found.name for found in board.people("lobby")] == ["alive"]
    board.heard("alive", {}, now=15)
    assert board.people("lobby") == []


def test_a_report_reads_as_it_was_written() -> None:
    board, other = presence.Board(), presence.Board()
    board.own["lobby"] = {"channel-1": person("Ada"), "channel-2": person("Bo")}
    other.heard("desk", presence.rooms_of(board.report()), now=10)
    assert other.people("lobby") == board.people("lobby") == [person("Ada"), person("Bo")]


def test_a_taken_port_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        free, other = run.choose_ports("127.0.0.1", 0, 0)
        monkeypatch.setattr(run, "PREFERRED_PORTS", [busy, free, other])
        assert run.choose_ports("127.0.0.1", None, None) == [free, other]
        assert run.choose_ports("127.0.0.1", free, None) == [free, other]
        with pytest.raises(run.CannotStartError, match=f"port {busy} of 127.0.0.1 is taken"):
            run.choose_ports("127.0.0.1", busy, None)
