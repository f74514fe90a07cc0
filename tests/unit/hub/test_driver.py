"""The hub's way into its transport: what is told of groups, and what the loss of a connection ends."""

import asyncio
import threading
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.hub.driver import Driver
from channels_trunk.hub.lifecycle import Lifecycle
from channels_trunk.transports.base import Capabilities, Transport


class Stage:
    """A driver whose transport notes what it is told, and answers when `answering` is set."""

    def __init__(self) -> None:
        self.groups: dict[str, None] = {}
        self.told: list[tuple[str, set[str]]] = []
        self.heard: frozenset[str] = frozenset()  # as the transport knows it
        self.listened: frozenset[str] = frozenset()  # as the engine does
        self.faults: list[str] = []  # of the next calls: "before" they reach the engine, or "after"
        self.answering = asyncio.Event()
        self.answering.set()
        self.hub = SimpleNamespace(
            is_open=True,
            on_io_thread=True,
            lock=threading.Lock(),
            options=SimpleNamespace(send_timeout=60.0),
            router=SimpleNamespace(groups=SimpleNamespace(names=lambda: self.groups)),
        )
        transport = SimpleNamespace(
            capabilities=Capabilities(crosses_processes=True, needs_interest=True),
            narrow=self._narrow,
            hears=lambda group: group in self.heard,
            interest=self._interest,
            hear=self._hear,
        )
        self.driver = Driver(cast(Lifecycle, self.hub), cast(Transport, transport))

    def _narrow(self, groups: frozenset[str]) -> None:
        self.heard &= groups

    async def _interest(self, groups: frozenset[str]) -> None:
        await self._tell("interest", groups, groups)
        self.heard = groups

    async def _hear(self, groups: frozenset[str]) -> None:
        await self._tell("hear", groups, self.listened | groups)
        self.heard |= groups

    async def _tell(self, what: str, groups: frozenset[str], listened: frozenset[str]) -> None:
        self.told.append((what, set(groups)))
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "before":
            raise TransportUnavailable("cut")
        self.listened = listened
        await self.answering.wait()
        if fault == "after":
            raise TransportUnavailable("cut")

    def join(self, group: str) -> "asyncio.Task[None]":
        self.groups[group] = None
        return asyncio.ensure_future(self.driver.be_heard(group))


async def turns() -> None:
    """Let all tasks go as far as they come by themselves."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def stage() -> Stage:
    stage = Stage()
    stage.groups["old"] = None
    await stage.driver.before_opened()
    return stage


async def test_a_join_tells_the_transport_of_its_group_alone(stage: Stage) -> None:
    await stage.join("new")
    await stage.join("new")
    await stage.join("old")
    assert stage.told == [("interest", {"old"}), ("hear", {"new"})]


async def test_joins_during_another_are_told_together(stage: Stage) -> None:
    stage.answering.clear()
    joining = [stage.join(name) for name in "abc"]
    await turns()
    assert stage.told[1:] == [("hear", {"a", "b", "c"})] or stage.told[1:] == [("hear", {"a"})]
    stage.answering.set()
    await asyncio.gather(*joining)
    assert len(stage.told) <= 3
    assert set().union(*(groups for _, groups in stage.told)) == {"old", "a", "b", "c"}


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["join", "leave", "sweep"]), st.sampled_from("ab"), st.sampled_from(["", "before", "after"])
        ),
        max_size=12,
    )
)
def test_whatever_failed_before_a_join_that_returns_is_heard(steps: list[tuple[str, str, str]]) -> None:
    """The answer to a round was lost, say, and the group is joined again before the next."""

    async def run() -> None:
        stage = Stage()
        await stage.driver.before_opened()
        for step, group, fault in steps:
            stage.faults = [fault] if fault else []
            if step == "leave":
                stage.groups.pop(group, None)
            elif step == "join":
                stage.groups[group] = None
                with suppress(TransportUnavailable):
                    await stage.driver.be_heard(group)
                    assert group in stage.listened
            else:
                with suppress(TransportUnavailable):
                    await stage.driver.be_heard()
                    assert stage.listened == set(stage.groups)

    asyncio.run(run())


async def test_groups_without_members_go_with_the_next_round(stage: Stage) -> None:
    await stage.join("new")
    del stage.groups["old"]
    await stage.driver.be_heard()
    assert stage.told[2:] == [("interest", {"new"})]


async def test_a_join_that_failed_is_told_again(stage: Stage) -> None:
    stage.answering.clear()
    joining = stage.join("a")
    await turns()
    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    stage.answering.set()
    await stage.join("a")
    assert stage.told[1:] == [("hear", {"a"}), ("hear", {"a"})]


async def test_the_loss_of_the_connection_ends_a_call_that_hangs_and_the_next_one_has_it(stage: Stage) -> None:
    stage.answering.clear()
    joining = stage.join("a")
    await turns()
    stage.hub.is_open = False
    stage.driver.cut()
    await turns()
    assert not joining.done()
    stage.answering.set()
    await stage.driver.before_opened()
    stage.hub.is_open = True
    stage.driver.let_go()
    await asyncio.wait_for(joining, 5)
    assert stage.told[2:] == [("interest", {"old", "a"})]


async def test_the_loss_of_a_connection_that_is_not_followed_by_another_is_an_error(stage: Stage) -> None:
    async def hang() -> Any:
        await asyncio.Event().wait()

    calling = asyncio.ensure_future(stage.driver.drive_patiently(hang))
    await turns()
    stage.hub.is_open = False
    stage.driver.cut()
    await turns()
    stage.driver.let_go(TransportUnavailable("closed"))
    with pytest.raises(TransportUnavailable, match="closed"):
        await calling


async def test_another_thread_has_taken_over(stage: Stage) -> None:
    stage.hub.on_io_thread = False
    with pytest.raises(TransportUnavailable, match="closed meanwhile"):
        await stage.driver.be_heard("a")
