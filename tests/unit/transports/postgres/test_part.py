"""What a node concludes from what it is told, on parts that are only made up."""

from types import SimpleNamespace
from typing import Any

import pytest

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.transports.postgres import PostgresSettings, PostgresTransport
from channels_trunk.transports.postgres.names import Names
from channels_trunk.transports.postgres.part import Kept, Part
from channels_trunk.transports.postgres.reading import Reading
from channels_trunk.transports.postgres.upkeep import Place


def make_part(known: Place, *, position: int, answer: Place, heard_meanwhile: int) -> Part:
    kept, context = Kept(), SimpleNamespace(sink=SimpleNamespace(lost=None))
    kept.place = known
    part: Any = Part(PostgresSettings("dbname=mysite"), context, kept, Reading())  # type: ignore[arg-type]
    part.listener, part.upkeep = SimpleNamespace(position=position), SimpleNamespace()
    part.writer = SimpleNamespace(log_ends_at=lambda _head: None)

    async def find_place(_position: int) -> Place:
        part.listener.position += heard_meanwhile
        return answer

    part.upkeep.find_place = find_place
    made: Part = part
    return made


async def test_what_is_heard_during_the_question_is_no_sign_of_emptied_tables() -> None:
    part = make_part(Place(1, 1, 100), position=100, answer=Place(1, 1, 100), heard_meanwhile=5)
    await part.check_place()


@pytest.mark.parametrize("answer", [Place(1, 1, 99), Place(2, 1, 200)], ids=["head", "epoch"])
async def test_emptied_tables_are_seen(answer: Place) -> None:
    part = make_part(Place(1, 1, 100), position=100, answer=answer, heard_meanwhile=0)
    with pytest.raises(TransportUnavailable, match="somebody has emptied the layer's tables"):
        await part.check_place()


@pytest.mark.parametrize(
    ("position", "found", "goes_on_at", "missed"),
    [
        (7, Place(1, 1, 9), 7, ""),
        (7, Place(1, 8, 9), 7, ""),
        (7, Place(1, 9, 12), 8, "emptied before this process had read it"),
        (7, Place(1, 1, 6), 7, "emptied before this process had read it"),
        (7, Place(2, 1, 9), 0, "the server has crashed"),
    ],
)
def test_where_a_node_goes_on_that_was_cut_off(position: int, found: Place, goes_on_at: int, missed: str) -> None:
    kept = Kept()
    kept.place, kept.position = Place(1, 1, 7), position
    assert kept.where_to_go_on(found) == goes_on_at
    assert missed in kept.what_was_missed(found)
    assert bool(missed) == bool(kept.what_was_missed(found))


def test_a_node_that_comes_for_the_first_time_has_missed_nothing() -> None:
    assert Kept().what_was_missed(Place(1, 5, 9)) == ""
    assert Kept().where_to_go_on(Place(1, 5, 9)) == 9


def make_joining(kept: Kept, gaps: list[str], *, found: Place, fails_at: str, is_known: bool = True) -> Part:
    """A part that comes to the log again; what it asks at one of its steps fails."""
    sink = SimpleNamespace(lost=None, gap=gaps.append, hampered=lambda _reason: None)
    part: Any = Part(PostgresSettings("dbname=mysite"), SimpleNamespace(sink=sink), kept, Reading())  # type: ignore[arg-type]
    asked: list[str] = []

    def answers(step: str, answer: Any = None) -> Any:
        async def ask(*_arguments: Any) -> Any:
            asked.append(step)
            if f"{step} {asked.count(step)}" == fails_at:
                raise TransportUnavailable("the server went")
            return answer

        return ask

    for line in ("keeping", "writing", "listening"):
        wire = SimpleNamespace(run=answers("run", [(0.0,)]), wire=answers(line), close=lambda: None)
        setattr(part, line, wire)
    part.listener = SimpleNamespace(position=kept.position, stop=lambda: None)
    part.writer = SimpleNamespace(log_ends_at=lambda _head: None)
    part.queues = SimpleNamespace(settle=answers("settle"))
    part.upkeep = SimpleNamespace(
        hold_alive_lock=answers("lock"),
        heartbeat=answers("heartbeat", is_known),
        register=answers("register"),
        find_place=answers("find_place", found),
        leap=answers("leap"),
    )
    part._first = None
    made: Part = part
    return made


@pytest.mark.parametrize("found", [Place(1, 9, 12), Place(2, 9, 12)], ids=["emptied", "epoch"])
@pytest.mark.parametrize(
    "fails_at", ["find_place 1", "heartbeat 1", "find_place 2", "writing 1", "listening 1", "settle 1"]
)
async def test_a_gap_is_told_once_though_the_server_goes_while_it_is_looked_for(fails_at: str, found: Place) -> None:
    kept, gaps = Kept(), list[str]()
    kept.place, kept.position = Place(1, 1, 7), 7
    part = make_joining(kept, gaps, found=found, fails_at=fails_at)
    with pytest.raises(TransportUnavailable):
        await part.take_part()
    await part.close(leave=False)
    await make_joining(kept, gaps, found=found, fails_at="").take_part()
    assert len(gaps) == 1
    assert kept.position == 8


@pytest.mark.parametrize("fails_at", ["register 1", "find_place 2", "writing 1"])
async def test_who_was_forgotten_says_so_once_though_the_server_goes(fails_at: str) -> None:
    """Its row may be there again: others asked it nothing while it was not."""
    kept, gaps, found = Kept(), list[str](), Place(1, 1, 7)
    kept.place, kept.position = found, 7
    part = make_joining(kept, gaps, found=found, fails_at=fails_at, is_known=False)
    with pytest.raises(TransportUnavailable):
        await part.take_part()
    await part.close(leave=False)
    await make_joining(kept, gaps, found=found, fails_at="").take_part()
    assert len(gaps) == 1
    assert "took this process for dead" in gaps[0]


async def test_a_group_is_asked_for_while_the_connections_are_closed() -> None:
    """The hub's thread closes them at any moment, and a caller's thread asks."""

    class Closing(PostgresTransport):
        asked = 0

        @property
        def _part(self) -> Any:
            self.asked += 1
            return SimpleNamespace(bells=Names("public", "trunk_").bells("asgi")) if self.asked == 1 else None

        @_part.setter
        def _part(self, part: Any) -> None:
            """There is none."""

    assert not Closing(lambda: PostgresSettings("dbname=mysite")).hears("room")
