"""Runs programmes on the nodes of one layer, and holds each step against the reference."""

import asyncio
import itertools
import time
from collections.abc import Callable

from channels_trunk.testing.layer import Message
from channels_trunk.testing.model.allowances import Difference
from channels_trunk.testing.model.at_once import RunAtOnce
from channels_trunk.testing.model.reference import Entry, Reference
from channels_trunk.testing.model.stage import GAP_EVENT, SMALL, Loss, Stage
from channels_trunk.testing.model.steps import (
    GAP,
    GROUPS,
    Add,
    Close,
    Copy,
    Cut,
    Discard,
    Expire,
    Flush,
    Kill,
    Listen,
    Lose,
    New,
    Programme,
    Receive,
    Renew,
    Restore,
    Send,
    Step,
    Stop,
    is_small,
    owner_of,
)
from channels_trunk.testing.peers import Peer
from channels_trunk.testing.waiting import eventually

__all__ = ["Run", "run_programme"]


async def run_programme(stage: Stage, programme: Programme) -> None:
    """Run a programme; raises Difference, naming the step."""
    tag = f"r{next(stage.runs)}"
    if programme.at_once:
        try:
            await RunAtOnce(stage, programme, tag).run()
        except Exception as error:
            raise Difference(_told(error)) from error
    else:
        await _run_in_turn(stage, programme, Run(stage, tag))


async def _run_in_turn(stage: Stage, programme: Programme, run: "Run") -> None:
    for index, step in enumerate([*programme.steps, None]):
        where = "at the end" if step is None else f"at step {index}, {step!r}"
        began = time.monotonic()
        try:
            async with asyncio.timeout(stage.within * 3):
                await (run.end() if step is None else run.do(step))
        except Exception as error:
            if stage.expiry is not None and began - run.since > stage.expiry / 2:
                # A slow machine: what was not received may have been too old by now.
                await stage.renew_all()
                return
            raise Difference(f"{where}: {_told(error)}") from error


class Run:
    """One programme under way."""

    def __init__(self, stage: Stage, tag: str) -> None:
        self._stage = stage
        self._tag = stage.rig.name(tag)
        self._reference = Reference(len(stage.nodes), small=SMALL)
        self._names: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._was_cut = False
        self._restore: Callable[[], object] | None = None
        self.since = time.monotonic()
        """When the last message expired."""

    def _node(self, node: int) -> Peer:
        self._reference.use(node)
        return self._stage.nodes[node]

    async def _open(self, node: int) -> Peer:
        """Return a node that others reach: a receive() alone opens a closed layer, but not before it returns."""
        if node in self._reference.closed:
            await self._node(node).new_channel()
        return self._node(node)

    async def _name(self, target: str) -> str:
        """Return the name of a channel or group; a process-specific one is made when it is first named."""
        if target not in self._names:
            owner = owner_of(target)
            if owner is None:
                self._names[target] = f"{target}-{self._tag}"
            else:
                prefix = ["small"] if is_small(target) else []
                self._names[target] = await self._node(owner).call("new_channel", *prefix)
        return self._names[target]

    async def do(self, step: Step) -> None:
        """Make one step."""
        await self._note_gaps()
        closed = set(self._reference.closed)
        await self._do(step)
        # What a node does with its own channels alone opens nothing.
        await asyncio.gather(*(self._stage.nodes[node].new_channel() for node in closed - self._reference.closed))

    async def _do(self, step: Step) -> None:
        match step:
            case New(channel):
                self._names.pop(channel, None)
                self._reference.renamed(channel)
            case Send():
                await self._send(step)
            case Add(node, group, channel):
                await self._node(node).group_add(await self._name(group), await self._name(channel))
                self._reference.add(node, group, channel)
            case Discard(node, group, channel):
                await self._node(node).group_discard(await self._name(group), await self._name(channel))
                self._reference.discard(node, group, channel)
            case Receive(node, channel):
                await self._stop_all(channel=channel)
                await self._receive(node, channel)
            case Listen(node, channel):
                if (node, channel) not in self._reference.listening:
                    await (await self._open(node)).call("listen", await self._name(channel))
                    self._reference.listen(node, channel)
            case Stop(node, channel):
                await self._stop(node, channel)
            case _:
                await self._befall(step)

    async def _befall(self, step: Step) -> None:
        match step:
            case Flush(node):
                await self._node(node).call("flush")
                self._reference.flush(node)
            case Close(node):
                await self._stage.nodes[node].call("close")
                self._reference.close(node)
            case Renew(node):
                await self._stop_all(node=node)
                await self._replace(node, kill=False)
            case Kill(node):
                await self._replace(node, kill=True)
            case Expire():
                await self._expire()
            case _:
                await self._befall_engine(step)

    async def _befall_engine(self, step: Step) -> None:
        engine = self._stage.engine
        match step:
            case Cut():
                assert engine.cut is not None
                await asyncio.to_thread(engine.cut)
                self._was_cut = True
                await self._stage.reached(self._awake())
            case Lose(way):
                await self._lose(engine.ways_to_lose[way])
            case Copy():
                self._restore = await self._stage.copy(self._awake())
                self._reference.copied()
            case Restore() if self._restore is not None:
                await self._lose(Loss(self._restore))
                self._reference.restored()

    async def _expire(self) -> None:
        if self._stage.expiry is None:
            return
        await self._stop_all()
        for channel in [name for name, entries in self._reference.entries.items() if entries]:
            if not self._reference.is_sure(channel) and owner_of(channel) is not None:
                await self._fence(owner_of(channel) or 0, channel)
        await asyncio.sleep(self._stage.expiry * 1.05)
        self._reference.expired()
        self.since = time.monotonic()

    async def _note_gaps(self) -> None:
        """A node that was cut off may send before it has told that it lost something."""
        if self._was_cut and (gaps := await self._stage.count_gaps()) != self._stage.gaps:
            self._stage.gaps = gaps
            self._reference.gap_told()

    async def _lose(self, loss: Loss) -> None:
        await self._stage.lose(loss, self._awake())
        self._stage.gaps = await self._stage.count_gaps()
        self._reference.lost(mail=loss.mail, told=loss.told, jobs=loss.jobs, members=loss.members)

    async def _replace(self, node: int, *, kill: bool) -> None:
        await self._stage.replace(node, kill=kill)
        self._reference.replaced(node, killed=kill)
        self._names = {target: name for target, name in self._names.items() if owner_of(target) != node}

    def _awake(self) -> list[int]:
        return [node for node in range(len(self._stage.nodes)) if node not in self._reference.closed]

    # --- sending

    async def _send(self, step: Send) -> None:
        addressed, numbers = [], []
        for target in step.to:
            numbers.append(next(self._numbers))
            addressed.append((target in GROUPS, await self._name(target), _message(numbers[-1])))
        outcomes = await self._node(step.node).call("send_each", addressed, how=step.how)
        for target, number, taken in zip(step.to, numbers, outcomes, strict=True):
            if target in GROUPS:
                self._reference.group_send(step.node, target, number)
            elif step.how == "on commit":
                self._reference.send(step.node, target, number, taken=None)
            else:
                await self._told(step.node, target, number, taken=taken)

    async def _told(self, node: int, channel: str, number: int, *, taken: bool) -> None:
        elsewhere = owner_of(channel) not in (None, node)
        elsewhere = elsewhere and owner_of(channel) not in self._reference.closed
        if not taken and elsewhere and self._reference.has_room(channel):
            taken = await self._send_patiently(node, channel, number)  # Allowance.HEARS_LATE
        self._reference.send(node, channel, number, taken=taken)

    async def _send_patiently(self, node: int, channel: str, number: int) -> bool:
        name = await self._name(channel)
        peer = self._node(node)
        try:
            await eventually(lambda: peer.has_room(name, _message(number)), within=self._stage.within)
        except TimeoutError:
            return False
        return True

    # --- receiving

    async def _receive(self, node: int, channel: str) -> None:
        peer, name = await self._open(node), await self._name(channel)
        if self._reference.is_sure(channel):
            within = self._stage.within
            try:
                message = await peer.call("receive", name, within=within, patience=within + 10)
            except TimeoutError:
                raise Difference(f"{channel} did not get what it has to: {self._reference.said(channel)}") from None
            self._reference.received(node, channel, _number(message))
        else:
            await self._fence(node, channel)

    async def _fence(self, node: int, channel: str) -> None:
        """Have every node send a message to the channel: what it sent before has come by then, or will not."""
        senders = self._awake()
        numbers = {next(self._numbers): sender for sender in senders}
        receiving = self._node(node).start(
            "receive_until", await self._name(channel), list(numbers), within=self._stage.within
        )
        try:
            await asyncio.gather(*(self._send_fence(sender, channel, number) for number, sender in numbers.items()))
        except BaseException:
            receiving.cancel()
            raise
        for message in await receiving:
            self._reference.received(node, channel, _number(message))
        if missing := [e.number for e in self._reference.entries[channel] if e.number in numbers]:
            raise Difference(f"{channel} did not get {missing}")
        self._reference.fenced(channel, senders)

    async def _send_fence(self, node: int, channel: str, number: int) -> None:
        if not await self._send_patiently(node, channel, number):
            raise Difference(f"node {node} was told for good that {channel} is full")
        self._reference.put(channel, Entry(number, self._reference.use(node)))

    async def _stop_all(self, *, channel: str | None = None, node: int | None = None) -> None:
        for listener, listened in sorted(self._reference.listening):
            if channel in (None, listened) and node in (None, listener):
                await self._stop(listener, listened)

    async def _stop(self, node: int, channel: str) -> None:
        if (node, channel) not in self._reference.listening:
            return
        message: Message | None = await self._stage.nodes[node].call("stop_listening", await self._name(channel))
        self._reference.listening.discard((node, channel))
        if message is not None:
            self._reference.received(node, channel, _number(message))

    # --- the end

    async def end(self) -> None:
        """See that every channel holds what it has to and no more, and leave the groups."""
        await self._note_gaps()
        for channel in sorted(self._reference.entries.keys() & self._names.keys()):
            await self._stop_all(channel=channel)
            node = owner_of(channel)
            reader = len(self._stage.nodes) - 1 if node is None else node
            while self._reference.is_sure(channel):
                await self._receive(reader, channel)
            await self._receive(reader, channel)
        await self._leave(self._reference.members)
        gaps = await self._stage.count_gaps()
        told, self._stage.gaps = self._stage.gaps, gaps
        if gaps != told and not (self._reference.may_lose or self._was_cut):
            raise Difference(f"nodes counted gaps though nothing was lost: {gaps} after {told}")

    async def _leave(self, members: dict[str, set[str]]) -> None:
        leaving = [(group, channel) for group in members for channel in members[group] if channel in self._names]
        for group, channel in leaving:
            await self._stage.nodes[owner_of(channel) or 0].group_discard(self._names[group], self._names[channel])


def _told(error: Exception) -> str:
    if isinstance(error, ExceptionGroup):
        return "; ".join(map(_told, error.exceptions))
    return str(error) if isinstance(error, Difference) else repr(error)


def _number(message: Message) -> int:
    return GAP if message["type"] == GAP_EVENT else int(message["number"])


def _message(number: int) -> Message:
    return {"type": "model", "number": number}
