"""What a node asks of the broker when its groups change."""

import asyncio
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any, cast

import pytest

from channels_trunk.transports.rabbitmq.answers import Answered
from channels_trunk.transports.rabbitmq.errors import AmqpError
from channels_trunk.transports.rabbitmq.hearing import Hearing, Told
from channels_trunk.transports.rabbitmq.link import Link
from channels_trunk.transports.rabbitmq.place import Place


class Desk:
    """Notes what it is asked for; the test answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []
        self.answers: list[Callable[[AmqpError | None], None]] = []
        self.is_closed = False

    def bind_all(self, _queue: str, _exchange: str, keys: list[str], answered: Answered) -> bool:
        if self.is_closed:
            return False
        self.asked.append(("bind", sorted(keys)))
        self.answers.append(lambda error: answered(None, error))
        return True

    def unbind_all(self, _queue: str, _exchange: str, keys: list[str]) -> "asyncio.Future[Any]":
        self.asked.append(("unbind", keys))
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.answers.append(lambda error: future.set_exception(error) if error else future.set_result(None))
        return future

    def in_loop(self, function: Callable[..., None], *args: Any) -> None:
        function(*args)


class Stage:
    """A hearing with a link and a place."""

    def __init__(self, *, channels: int = 1) -> None:
        self.hearing = Hearing()
        self.binders = [Desk() for _ in range(channels)]
        self.desk = self.binders[0]
        settings = SimpleNamespace(topology=SimpleNamespace(groups_exchange="x"))
        self.link = cast(
            Link, SimpleNamespace(desk=self.desk, binders=self.binders, bound=set(), asked={}, settings=settings)
        )
        self.place = cast(Place, SimpleNamespace(bound=set(), queue=SimpleNamespace(name="q")))

    def narrow(self, *groups: str) -> None:
        self.hearing.narrow(self.link, self.place, frozenset(groups))

    def interest(self, *groups: str) -> "asyncio.Task[None]":
        return asyncio.ensure_future(self.hearing.interest(self.link, self.place, frozenset(groups)))

    def tell_more(self, *groups: str) -> "asyncio.Task[None]":
        return asyncio.ensure_future(self.hearing.hear(self.link, self.place, frozenset(groups)))

    def start(self, groups: Collection[str], told: Told) -> bool:
        return self.hearing.start(self.link, self.place, groups, told)

    async def told(self, *groups: str) -> None:
        self.narrow(*groups)
        await self.answered(self.interest(*groups))

    async def answered(self, task: "asyncio.Task[None]") -> None:
        await asyncio.sleep(0)
        self.answer()
        await task

    def answer(self, error: AmqpError | None = None) -> None:
        answers, self.desk.answers = self.desk.answers, []
        for answer in answers:
            answer(error)

    def heard(self) -> set[str]:
        return {group for group in "abc" if self.hearing.hears(group)}


async def test_only_what_is_new_is_bound_and_what_is_over_unbound() -> None:
    stage = Stage()
    await stage.told("b", "a")
    await stage.told("b", "a", "c")
    await stage.told("c")
    await stage.told("c")
    assert stage.desk.asked == [("bind", ["a", "b"]), ("bind", ["c"]), ("unbind", ["a", "b"])]
    assert stage.heard() == stage.link.bound == stage.place.bound == {"c"}


async def test_a_group_is_heard_when_the_broker_has_answered() -> None:
    stage = Stage()
    task = stage.interest("a")
    await asyncio.sleep(0)
    assert not stage.hearing.hears("a")
    await stage.answered(task)
    assert stage.hearing.hears("a")
    stage.narrow("b")
    assert not stage.hearing.hears("a")


async def test_what_a_cancelled_call_asked_for_is_not_asked_again_but_waited_for() -> None:
    stage = Stage()
    task = stage.tell_more("a", "b")
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    again, more = stage.tell_more("a"), stage.tell_more("a", "c")
    await asyncio.sleep(0)
    assert stage.desk.asked == [("bind", ["a", "b"]), ("bind", ["c"])]
    stage.desk.answers.pop(0)(None)
    await again
    assert not more.done()
    await stage.answered(more)
    assert stage.link.bound == {"a", "b", "c"}


async def test_after_a_reconnection_all_is_bound_again_and_what_is_over_unbound() -> None:
    stage = Stage()
    await stage.told("a", "b")
    stage.link.bound, stage.link.asked = set(), {}
    await stage.told("b")
    assert stage.desk.asked[1:] == [("bind", ["b"]), ("unbind", ["a"])]


async def test_a_group_more_is_bound_and_nothing_else_is_touched() -> None:
    stage = Stage()
    await stage.told("a", "b")
    await stage.answered(stage.tell_more("b", "c"))
    await stage.answered(stage.tell_more("c"))
    assert stage.desk.asked == [("bind", ["a", "b"]), ("bind", ["c"])]
    assert stage.heard() == stage.link.bound == stage.place.bound == set("abc")
    await stage.told("c")
    assert stage.desk.asked[2:] == [("unbind", ["a", "b"])]


# --- asked for in any thread


async def test_a_caller_is_told_when_the_broker_has_answered() -> None:
    stage, told = Stage(), list[AmqpError | None]()
    assert stage.start(["a"], told.append)
    assert told == []
    stage.answer()
    assert stage.start(["a"], told.append)
    assert told == [None, None]
    assert stage.desk.asked == [("bind", ["a"])]


async def test_a_caller_is_told_of_the_end_of_the_connection() -> None:
    stage, told = Stage(), list[AmqpError | None]()
    assert stage.start(["a"], told.append)
    stage.answer(AmqpError("cut"))
    assert isinstance(told[0], AmqpError)
    assert stage.heard() == stage.link.bound == set()
    assert stage.place.bound == {"a"}  # perhaps
    stage.desk.is_closed = True
    assert not stage.start(["b"], told.append)
    with pytest.raises(AmqpError):
        await stage.tell_more("c")
    assert len(told) == 1


async def test_what_a_caller_asks_for_before_it_is_unbound_stays() -> None:
    """A member that joins between narrow() and interest() is in none of the groups that interest() was given."""
    stage, told = Stage(), list[AmqpError | None]()
    await stage.told("a", "b")
    stage.narrow("b")
    assert stage.start(["a"], told.append)
    await stage.answered(stage.interest("b"))
    assert stage.desk.asked == [("bind", ["a", "b"]), ("bind", ["a"])]
    assert told == [None]
    assert stage.heard() == stage.link.bound == stage.place.bound == {"a", "b"}


async def test_what_a_caller_asks_for_after_it_was_unbound_is_bound_again() -> None:
    stage, told = Stage(), list[AmqpError | None]()
    await stage.told("a", "b")
    stage.narrow("b")
    telling = stage.interest("b")
    await asyncio.sleep(0)
    assert stage.start(["a"], told.append)
    await stage.answered(telling)
    assert stage.desk.asked[1:] == [("unbind", ["a"]), ("bind", ["a"])]
    assert stage.heard() == stage.link.bound == stage.place.bound == {"a", "b"}


async def test_an_answer_from_before_an_unbind_does_not_make_a_group_heard() -> None:
    stage, told = Stage(), list[AmqpError | None]()
    assert stage.start(["a"], told.append)
    stage.narrow()
    telling = stage.interest()
    await asyncio.sleep(0)
    assert stage.start(["a"], told.append)
    assert stage.desk.asked == [("bind", ["a"]), ("unbind", ["a"]), ("bind", ["a"])]
    stage.desk.answers.pop(0)(None)
    assert told == [None]
    assert stage.heard() == set()
    await stage.answered(telling)
    assert told == [None, None]
    assert stage.heard() == {"a"}


# --- over two channels

MANY = [f"group-{number}" for number in range(40)]


def test_groups_are_shared_out_and_heard_when_all_is_answered() -> None:
    stage = Stage(channels=2)
    told: list[AmqpError | None] = []
    assert stage.start(MANY, told.append)
    one, other = stage.binders
    assert sorted(one.asked[0][1] + other.asked[0][1]) == sorted(MANY)
    one.answers.pop()(None)
    assert told == []
    assert not any(map(stage.hearing.hears, MANY))
    other.answers.pop()(None)
    assert told == [None]
    assert all(map(stage.hearing.hears, MANY))


@pytest.mark.parametrize("first", [0, 1])
def test_what_one_channel_refuses_is_refused_as_a_whole(first: int) -> None:
    stage = Stage(channels=2)
    told: list[AmqpError | None] = []
    assert stage.start(MANY, told.append)
    error = AmqpError("no")
    stage.binders[first].answers.pop()(error)
    stage.binders[1 - first].answers.pop()(None)
    assert told == [error]
    assert not any(map(stage.hearing.hears, MANY))


def test_a_channel_that_is_closed_already_is_an_error_when_the_other_has_answered() -> None:
    stage = Stage(channels=2)
    told: list[AmqpError | None] = []
    stage.binders[1].is_closed = True
    assert stage.start(MANY, told.append)
    stage.binders[0].answers.pop()(None)
    [error] = told
    assert isinstance(error, AmqpError)
    stage.binders[0].is_closed = True
    assert not stage.start(["another"], told.append)


def test_who_asks_for_what_several_have_asked_for_waits_for_all_of_them() -> None:
    stage = Stage(channels=2)
    told: list[str] = []
    for group in MANY[:3]:
        assert stage.start([group], lambda _error, group=group: told.append(group))  # type: ignore[misc]
    assert stage.start(MANY[:3], lambda _error: told.append("all"))
    answers = [answer for binder in stage.binders for answer in binder.answers]
    assert len(answers) == 3
    for answer in answers:
        assert "all" not in told
        answer(None)
    assert told[-1] == "all"
    assert len(told) == 4


async def test_a_group_is_bound_and_unbound_over_the_same_channel() -> None:
    stage = Stage(channels=2)
    assert stage.start(MANY, lambda _error: None)
    for binder in stage.binders:
        binder.answers.pop()(None)
    stage.narrow()
    unbinding = stage.interest()
    await asyncio.sleep(0)
    for binder in stage.binders:
        (_, bound), (_, unbound) = binder.asked
        assert sorted(bound) == sorted(unbound)
        binder.answers.pop()(None)
    await unbinding
