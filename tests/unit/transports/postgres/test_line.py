"""A line, over connections that are only made up."""

from typing import Any, cast

import pytest

from channels_trunk.exceptions import SchemaMismatch, TransportUnavailable
from channels_trunk.transports.postgres.line import Line
from channels_trunk.transports.postgres.wire import ServerError, Wire


class FakeWire:
    """A session that stands until it is closed."""

    is_lost = False

    def close(self) -> None:
        self.is_lost = True


@pytest.mark.parametrize(
    "error",
    [TransportUnavailable("cut"), ServerError("42P01", "no table"), SchemaMismatch("a pooler"), OSError("full")],
)
async def test_whatever_keeps_a_session_from_being_made_is_told(error: Exception) -> None:
    told: list[Exception] = []
    made: list[FakeWire] = []

    async def make() -> Wire:
        made.append(FakeWire())
        return cast(Wire, made[-1])

    async def begin(_wire: Any) -> None:
        if len(made) == 1:
            raise error

    line = Line(make, begin=begin, on_away=told.append)
    with pytest.raises(type(error)):
        await line.wire()
    assert told == [error]
    assert made[0].is_lost
    assert await line.wire() is cast(Wire, made[1])


async def test_what_may_be_done_twice_is_done_again_as_often_as_it_is_cut() -> None:
    made: list[FakeWire] = []
    told: list[Exception] = []

    async def make() -> Wire:
        made.append(FakeWire())
        return cast(Wire, made[-1])

    async def begin(_wire: Any) -> None:
        pass

    async def is_cut_thrice(wire: Wire) -> int:
        if len(made) <= 3:
            wire.close()
            raise TransportUnavailable("cut")
        return len(made)

    line = Line(make, begin=begin, on_away=told.append)
    assert await line.over(is_cut_thrice) == 4
    assert told == []


async def test_what_is_no_cut_is_not_done_again() -> None:
    made: list[FakeWire] = []

    async def make() -> Wire:
        made.append(FakeWire())
        return cast(Wire, made[-1])

    async def begin(_wire: Any) -> None:
        pass

    async def fails(_wire: Wire) -> None:
        raise TransportUnavailable("it does not answer")

    line = Line(make, begin=begin, on_away=lambda _error: None)
    with pytest.raises(TransportUnavailable, match="does not answer"):
        await line.over(fails)
    assert len(made) == 1
