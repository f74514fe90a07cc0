"""Runs programmes whose nodes act at once, and has a ledger say whether anything went astray."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from channels_trunk.testing.layer import Message
from channels_trunk.testing.model.allowances import Difference
from channels_trunk.testing.model.ledger import ModelLedger, Sent
from channels_trunk.testing.model.stage import Loss, Stage
from channels_trunk.testing.model.steps import (
    GROUPS,
    Add,
    Copy,
    Cut,
    Discard,
    Kill,
    Lose,
    Programme,
    Restore,
    Send,
    Step,
    is_small,
    owner_of,
)
from channels_trunk.testing.processes import PeerGone
from channels_trunk.testing.waiting import eventually

__all__ = ["RunAtOnce"]


class RunAtOnce:
    """One programme under way: each node makes its steps in their order, at the same time as the others.

    Each channel is read all the time, by receives that are cancelled at random; a normal one by every node. A step of
    no node, and a kill, is made when so many steps have been made as stand before it.
    """

    def __init__(self, stage: Stage, programme: Programme, tag: str) -> None:
        self._stage = stage
        self._programme = programme
        self._tag = stage.rig.name(tag)
        self._ledger = ModelLedger()
        self._names: dict[str, str] = {}
        self._lives = list(range(programme.nodes))
        self._made = 0
        self._numbers = 0
        self._last: dict[str, list[int]] = {}  # by channel: the last message of each node
        self._was_cut = False
        self._restore: Callable[[], object] | None = None
        self._killed: set[int] = set()

    async def run(self) -> None:
        """Run it; raises Difference."""
        stage, steps = self._stage, self._programme.steps
        await stage.reached(range(self._programme.nodes))
        await self._name_all()
        readers = self._begin_reading()
        scripts = [[step for step in steps if _node_of(step) == node] for node in range(self._programme.nodes)]
        befalling = [(index, step) for index, step in enumerate(steps) if _node_of(step) is None]
        try:
            async with asyncio.TaskGroup() as group:
                for node, script in enumerate(scripts):
                    group.create_task(self._act(node, script))
                group.create_task(self._befall(befalling))
            await self._finish()
            await self._collect(readers)
        finally:
            for _, reading in readers:
                reading.cancel()
        gaps = await stage.count_gaps()
        self._ledger.gaps = {node for node, count in enumerate(gaps) if count > stage.gaps[node]}
        if self._ledger.gaps and not self._was_cut:
            raise Difference(f"nodes counted gaps though nothing was lost: {gaps} after {stage.gaps}")
        stage.gaps = gaps
        if faults := list(self._ledger.faults()):
            raise Difference("; ".join(faults[:5]) + (f"; {len(faults) - 5} more" if len(faults) > 5 else ""))

    async def _name_all(self) -> None:
        for step in self._programme.steps:
            named = step.to if isinstance(step, Send) else [step.channel] if isinstance(step, (Add, Discard)) else []
            for channel in named:
                if channel in self._names:
                    continue
                owner = owner_of(channel)
                if owner is None:
                    self._names[channel] = f"{channel}-{self._tag}"
                else:
                    prefix = ["small"] if is_small(channel) else []
                    self._names[channel] = await self._stage.nodes[owner].call("new_channel", *prefix)
        self._names |= {group: f"{group}-{self._tag}" for group in GROUPS}

    # --- acting

    async def _act(self, node: int, script: Sequence[Step]) -> None:
        for step in script:
            with contextlib.suppress(PeerGone):
                await self._make(node, step)
            self._made += 1

    async def _make(self, node: int, step: Step) -> None:
        peer, ledger = self._stage.nodes[node], self._ledger
        if isinstance(step, Send):
            await self._send(step)
        elif isinstance(step, Add) and owner_of(step.channel) not in self._killed:
            membership = ledger.joins(step.group, step.channel)
            if await self._is_done(peer.group_add(self._names[step.group], self._names[step.channel])):
                ledger.joined(membership)
        elif isinstance(step, Discard) and owner_of(step.channel) not in self._killed:
            with ledger.leaves(step.group, step.channel):
                await self._is_done(peer.group_discard(self._names[step.group], self._names[step.channel]))

    async def _is_done(self, call: Awaitable[object]) -> bool:
        """Await a call; one that the engine was away for is not done, or nobody knows."""
        try:
            await call
        except PeerGone:
            raise
        except Exception as error:
            if not self._was_cut:
                raise Difference(f"a call failed, and no connection was cut: {error!r}") from error
            return False
        return True

    async def _send(self, step: Send) -> None:
        life, began = self._lives[step.node], self._ledger.moment()
        messages = []
        for target in step.to:
            self._numbers += 1
            messages.append(Sent(self._numbers, life, target, target in GROUPS, began))
        self._ledger.sent |= {message.number: message for message in messages}
        addressed = [(m.is_group, self._names[m.to], {"type": "model", "number": m.number}) for m in messages]
        call = self._stage.nodes[step.node].start("send_each", addressed, how=step.how)
        if await self._is_done(call):
            for message, taken in zip(messages, call.result(), strict=True):
                # What is sent on commit and finds no room is dropped, and nobody is told.
                message.taken = taken and not (step.how == "on commit" and (self._was_cut or is_small(message.to)))

    async def _befall(self, steps: Sequence[tuple[int, Step]]) -> None:
        for index, (place, step) in enumerate(steps):
            await eventually(partial(self._have_made, place - index), within=self._stage.within * 3)
            if isinstance(step, Cut):
                assert self._stage.engine.cut is not None
                self._was_cut = True
                await asyncio.to_thread(self._stage.engine.cut)
            elif isinstance(step, Kill):
                self._killed.add(step.node)
                self._ledger.gone.add(step.node)
                await self._stage.replace(step.node, kill=True)
                self._lives[step.node] = max(self._lives) + 1
            elif isinstance(step, Lose):
                await self._lose(self._stage.engine.ways_to_lose[step.way])
            elif isinstance(step, Copy):
                self._restore = await self._stage.copy(range(self._programme.nodes))
            elif isinstance(step, Restore) and self._restore is not None:
                self._ledger.restored = True
                await self._lose(Loss(self._restore))

    async def _lose(self, loss: Loss) -> None:
        self._ledger.lost = self._was_cut = True
        await self._stage.lose(loss, range(self._programme.nodes))

    def _have_made(self, count: int) -> bool:
        return self._made >= count

    # --- reading

    def _begin_reading(self) -> list[tuple[str, "asyncio.Future[list[Message]]"]]:
        readers, nodes = [], range(self._programme.nodes)
        seed = self._tag if self._stage.rig.features.cancellation_safe else None
        for channel in [target for target in self._names if target not in GROUPS]:
            self._last[channel] = [-len(nodes) * len(self._last) - node - 1 for node in nodes]
            owner = owner_of(channel)
            for node in nodes if owner is None else [owner]:
                # Each reader of a normal channel ends with one of its last messages.
                options = {"until": self._last[channel], "count": 1 if owner is None else len(nodes), "seed": seed}
                within = self._stage.within * 3
                readers.append(
                    (channel, self._stage.nodes[node].start("read", self._names[channel], within=within, **options))
                )
        return readers

    async def _send_last(self, node: int, channel: str, number: int) -> None:
        message = {"type": "model", "number": number}

        async def is_accepted() -> bool:
            return bool(await self._stage.nodes[node].call("is_accepted", self._names[channel], message))

        await eventually(is_accepted, within=self._stage.within)

    async def _finish(self) -> None:
        """Have every node send its last message to every channel."""
        sending = [
            self._send_last(node, channel, number)
            for channel, numbers in self._last.items()
            if owner_of(channel) not in self._killed
            for node, number in enumerate(numbers)
        ]
        await asyncio.gather(*sending)

    async def _collect(self, readers: Sequence[tuple[str, "asyncio.Future[list[Message]]"]]) -> None:
        for channel, reading in readers:
            with contextlib.suppress(PeerGone):
                self._note(channel, await reading)
        # What a killed node sent is in no order with the last messages; nor is what a reader gave back.
        for channel in self._last:
            owner = owner_of(channel)
            if owner not in self._killed and (missing := self._ledger.missing(channel)):
                reader = self._stage.nodes[0 if owner is None else owner]
                call = reader.start("receive_until", self._names[channel], missing, within=self._stage.within / 2)
                self._note(channel, await call)

    def _note(self, channel: str, messages: Sequence[Message]) -> None:
        numbers = [message["number"] for message in messages if message["type"] == "model"]
        self._ledger.got[channel] += [number for number in numbers if number > 0]


def _node_of(step: Step) -> int | None:
    return step.node if isinstance(step, (Send, Add, Discard)) else None
