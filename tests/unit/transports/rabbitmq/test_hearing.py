"""What a node asks of the broker when its groups change."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from channels_trunk.transports.rabbitmq.hearing import Hearing
from channels_trunk.transports.rabbitmq.link import Link
from channels_trunk.transports.rabbitmq.place import Place


class Desk:
    """Notes what it is asked for; the test answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []
        self.answers: list[asyncio.Future[Any]] = []

    def _note(self, what: str, keys: list[str]) -> "asyncio.Future[Any]":
        self.asked.append((what, keys))
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]

    def bind(self, _queue: str, _exchange: str, key: str) -> "asyncio.Future[Any]":
        return self._note("bind", [key])

    def bind_all(self, _queue: str, _exchange: str, keys: list[str]) -> "asyncio.Future[Any]":
        return self._note("bind", keys)

    def unbind_all(self, _queue: str, _exchange: str, keys: list[str]) -> "asyncio.Future[Any]":
        return self._note("unbind", keys)


class Stage:
    """A hearing with a link and a place."""

    def __init__(self) -> None:
        self.hearing = Hearing()
        self.desk = Desk()
        self.link = SimpleNamespace(
            desk=self.desk,
            bound=set(),
            asked=set(),
            settings=SimpleNamespace(topology=SimpleNamespace(groups_exchange="x")),
        )
        self.place = SimpleNamespace(bound=set(), queue=SimpleNamespace(name="q"))

    def tell(self, *groups: str) -> "asyncio.Task[None]":
        link, place = cast(Link, self.link), cast(Place, self.place)
        return asyncio.ensure_future(self.hearing.interest(link, place, frozenset(groups)))

    def tell_more(self, *groups: str) -> "asyncio.Task[None]":
        link, place = cast(Link, self.link), cast(Place, self.place)
        return asyncio.ensure_future(self.hearing.hear(link, place, frozenset(groups)))

    async def told(self, *groups: str) -> None:
        await self.answered(self.tell(*groups))

    async def answered(self, task: "asyncio.Task[None]") -> None:
        await asyncio.sleep(0)
        for answer in self.desk.answers:
            if not answer.done():
                answer.set_result(None)
        await task


async def test_only_what_is_new_is_bound_and_what_is_over_unbound() -> None:
    stage = Stage()
    await stage.told("b", "a")
    await stage.told("b", "a", "c")
    await stage.told("c")
    await stage.told("c")
    assert stage.desk.asked == [("bind", ["a", "b"]), ("bind", ["c"]), ("unbind", ["a", "b"])]
    assert [stage.hearing.hears(group) for group in "abc"] == [False, False, True]
    assert stage.link.bound == stage.place.bound == {"c"}


async def test_a_group_is_heard_when_the_broker_has_answered() -> None:
    stage = Stage()
    task = stage.tell("a")
    await asyncio.sleep(0)
    assert not stage.hearing.hears("a")
    stage.desk.answers[0].set_result(None)
    await task
    assert stage.hearing.hears("a")
    stage.hearing.narrow(frozenset("b"))
    assert not stage.hearing.hears("a")


async def test_what_a_cancelled_call_asked_for_is_not_asked_again_but_waited_for() -> None:
    stage = Stage()
    task = stage.tell("a", "b")
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.link.bound == set()
    await stage.told("a", "b", "c")
    assert stage.desk.asked == [("bind", ["a", "b"]), ("bind", ["c"])]
    assert stage.link.bound == {"a", "b", "c"}


async def test_nothing_new_but_an_answer_that_is_missing() -> None:
    stage = Stage()
    task = stage.tell("a")
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    await stage.told("a")
    assert stage.desk.asked == [("bind", ["a"]), ("bind", ["a"])]
    assert stage.hearing.hears("a")


async def test_after_a_reconnection_all_is_bound_again_and_what_is_over_unbound() -> None:
    stage = Stage()
    await stage.told("a", "b")
    stage.link.bound, stage.link.asked = set(), set()
    await stage.told("b")
    assert stage.desk.asked[1:] == [("bind", ["b"]), ("unbind", ["a"])]


async def test_a_group_more_is_bound_and_nothing_else_is_touched() -> None:
    stage = Stage()
    await stage.told("a", "b")
    await stage.answered(stage.tell_more("b", "c"))
    await stage.answered(stage.tell_more("c"))
    assert stage.desk.asked == [("bind", ["a", "b"]), ("bind", ["c"])]
    assert all(map(stage.hearing.hears, "abc"))
    assert stage.link.bound == stage.place.bound == set("abc")
    await stage.told("c")
    assert stage.desk.asked[2:] == [("unbind", ["a", "b"])]


async def test_a_group_more_waits_for_an_answer_that_is_missing() -> None:
    stage = Stage()
    task = stage.tell_more("a")
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert not stage.hearing.hears("a")
    await stage.answered(stage.tell_more("a"))
    assert stage.desk.asked == [("bind", ["a"]), ("bind", ["a"])]
    assert stage.hearing.hears("a")
