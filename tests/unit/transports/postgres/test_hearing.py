"""What a node listens to, on a line that is only made up."""

from typing import Any, cast

import pytest

from channels_trunk.transports.postgres.hearing import Hearing
from channels_trunk.transports.postgres.line import Line
from channels_trunk.transports.postgres.names import Names
from channels_trunk.transports.postgres.wire import ServerError

BELLS = Names("public", "trunk_").bells("asgi")


class FakeLine:
    """A line, and its session in one; the first script is refused."""

    pooled = False

    def __init__(self) -> None:
        self.scripts: list[str] = []
        self.listens: set[str] = set()

    async def over(self, use: Any) -> Any:
        return await use(self)

    async def script(self, sql: str) -> None:
        self.scripts.append(sql)
        if len(self.scripts) == 1:
            raise ServerError("55P03", "canceling statement due to lock timeout")


async def test_a_refused_watch_is_asked_for_again() -> None:
    """Somebody who publishes stood still, and the lock has a time limit."""
    hearing, line = Hearing(), FakeLine()
    with pytest.raises(ServerError):
        await hearing.watch(frozenset({"jobs"}), BELLS, cast("Line", line))
    await hearing.watch(frozenset({"jobs"}), BELLS, cast("Line", line))
    assert f'LISTEN "{BELLS.queue("jobs")}"' in line.scripts[1]
    await hearing.watch(frozenset({"jobs"}), BELLS, cast("Line", line))
    assert len(line.scripts) == 2
