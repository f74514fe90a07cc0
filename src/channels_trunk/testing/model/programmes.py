"""Random programmes, and smaller ones of those that fail."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from channels_trunk.testing.features import Features
from channels_trunk.testing.model.stage import Engine
from channels_trunk.testing.model.steps import (
    GROUPS,
    Add,
    Close,
    Copy,
    Cut,
    Discard,
    Expire,
    Flush,
    How,
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

__all__ = ["Scope", "draw_programme", "shrunk"]

_HOWS: tuple[How, ...] = ("one by one", "one by one", "in one tick", "in one tick", "on commit", "blocking")

# How often each kind of step is drawn; each programme changes these numbers, and leaves some kinds out.
_WEIGHTS: dict[str, float] = {
    "send": 12, "add": 8, "discard": 5, "receive": 10, "listen": 2, "stop": 2, "new": 0.7,
    "flush": 0.8, "close": 0.8, "renew": 0.4, "kill": 0.4, "cut": 0.6, "expire": 2, "lose": 0.3,
    "copy": 0.8, "restore": 0.3,
}  # fmt: skip
_BY_THE_ENGINE: dict[str, Callable[[], Step]] = {"cut": Cut, "copy": Copy, "restore": Restore}
_OF_THE_ENGINE = {*_BY_THE_ENGINE, "lose"}


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What may be in a programme."""

    kinds: frozenset[str]
    hows: tuple[How, ...] = _HOWS
    normal: bool = True
    small: bool = True
    remote: bool = True
    """Whether a node adds and discards channels of others."""
    ways_to_lose: tuple[str, ...] = ()
    nodes: int = 3
    at_once: bool = False

    @classmethod
    def of(cls, features: Features, *, processes: bool, engine: Engine) -> "Scope":
        """Return what a layer with these features claims to do."""
        left_out = {
            "listen": not features.cancellation_safe,
            "stop": not features.cancellation_safe,
            "flush": not features.flush,
            "kill": not processes,
            "renew": not features.kinds_of_peers(),
            "cut": engine.cut is None,
            "expire": True,
            "lose": not (engine.ways_to_lose and features.statistics),
            "copy": engine.copy is None or not features.statistics,
            "restore": engine.copy is None or not features.statistics,
        }
        return cls(
            kinds=frozenset(kind for kind in _WEIGHTS if not left_out.get(kind)),
            hows=_HOWS if features.sync_api else _HOWS[:4],
            normal=features.normal_channels,
            small=features.capacity,
            remote=features.remote_group_add,
            ways_to_lose=tuple(engine.ways_to_lose),
            # A layer that no other reaches is alone.
            nodes=3 if features.kinds_of_peers() else 1,
        )

    def with_expiry(self) -> "Scope":
        """Return the same with messages that expire, and without what takes long."""
        return replace(self, kinds=self.kinds - {"kill", "renew", *_OF_THE_ENGINE} | {"expire"})

    def acting_at_once(self) -> "Scope":
        """Return the same for nodes that act at once."""
        return replace(self, at_once=True, kinds=self.kinds & {"send", "add", "discard", "kill", *_OF_THE_ENGINE})


class Names:
    """What the steps of one programme name: some of what there is, so that they meet."""

    def __init__(self, rng: random.Random, scope: Scope) -> None:
        self.rng = rng
        self.scope = scope
        self.nodes = range(scope.nodes)
        specific = [f"{node}{letter}" for node in self.nodes for letter in ("ab" if scope.small else "a")]
        normal = ["jobs", "small"][: scope.normal * (1 + scope.small)]
        self.channels = rng.sample([*specific, *normal], k=rng.randint(2, min(5, len(specific) + len(normal))))
        self.groups = GROUPS[: rng.choice((1, 1, 2))]

    def node(self) -> int:
        return self.rng.choice(self.nodes)

    def channel(self) -> str:
        return self.rng.choice(self.channels)

    def group(self) -> str:
        return self.rng.choice(self.groups)

    def reader(self) -> tuple[int, str]:
        channel = self.channel()
        owner = owner_of(channel)
        return (self.node() if owner is None else owner), channel

    def new(self) -> Step:
        specific = [channel for channel in self.channels if owner_of(channel) is not None]
        return New(self.rng.choice(specific)) if specific else self.send()

    def send(self) -> Step:
        count = self.rng.choice((1, 1, 1, 2, 2, 4))
        to = tuple(self.channel() if self.rng.random() < 0.4 else self.group() for _ in range(count))
        how = self.rng.choice(self.scope.hows) if count > 1 else "one by one"
        if how == "in one tick" and any(is_small(target) and owner_of(target) is not None for target in to):
            how = "one by one"  # a send that waits until it knows of room has not been sent when the next one is
        return Send(self.node(), to, how)


def draw_programme(seed: str, scope: Scope, *, size: int = 60) -> Programme:
    """Return the programme of this seed."""
    rng = random.Random(seed)
    names = Names(rng, scope)
    weights = {kind: weight * rng.choice((0, 0.5, 1, 1, 3)) for kind, weight in _WEIGHTS.items() if kind in scope.kinds}
    if "expire" in weights:
        weights["expire"] = _WEIGHTS["expire"]
    weights |= {"send": _WEIGHTS["send"], "add": max(1, weights["add"])}
    if "receive" in weights:
        weights["receive"] = max(1, weights["receive"])
    drawn = rng.choices(list(weights), list(weights.values()), k=size)
    return Programme(tuple(_step(kind, rng, names) for kind in drawn), nodes=scope.nodes, at_once=scope.at_once)


_GROUP_STEPS: dict[str, Callable[[int, str, str], Step]] = {"add": Add, "discard": Discard}
_READER_STEPS: dict[str, Callable[[int, str], Step]] = {"receive": Receive, "listen": Listen, "stop": Stop}
_NODE_STEPS: dict[str, Callable[[int], Step]] = {"flush": Flush, "close": Close, "renew": Renew, "kill": Kill}


def _step(kind: str, rng: random.Random, names: Names) -> Step:
    match kind:
        case "send":
            return names.send()
        case "new":
            return names.new()
        case "add" | "discard":
            node, channel = names.reader() if not names.scope.remote else (names.node(), names.channel())
            return _GROUP_STEPS[kind](node, names.group(), channel)
        case "receive" | "listen" | "stop":
            return _READER_STEPS[kind](*names.reader())
        case "expire":
            return Expire()
        case "cut" | "copy" | "restore":
            return _BY_THE_ENGINE[kind]()
        case "lose":
            return Lose(rng.choice(names.scope.ways_to_lose))
    return _NODE_STEPS[kind](names.node())


async def shrunk(programme: Programme, fails: Callable[[Programme], Awaitable[bool]], *, runs: int = 300) -> Programme:
    """Return a programme that still fails and from which no step can be left out, or one small as `runs` allow."""
    left = runs
    length = max(1, len(programme.steps) // 2)
    while True:
        start, smaller = 0, False
        while start < len(programme.steps):
            steps = programme.steps[:start] + programme.steps[start + length :]
            if left <= 0:
                return programme
            left -= 1
            shorter = replace(programme, steps=steps)
            if await fails(shorter):
                programme, smaller = shorter, True
            else:
                start += length
        if length == 1 and not smaller:
            return await _with_less_to_send(programme, fails)
        length = max(1, length // 2)


async def _with_less_to_send(programme: Programme, fails: Callable[[Programme], Awaitable[bool]]) -> Programme:
    for index, step in enumerate(programme.steps):
        if isinstance(step, Send) and len(step.to) > 1:
            for place in reversed(range(len(step.to))):
                kept = programme.steps[index]
                assert isinstance(kept, Send)
                less = Send(kept.node, kept.to[:place] + kept.to[place + 1 :], kept.how)
                steps = (*programme.steps[:index], less, *programme.steps[index + 1 :])
                if less.to and await fails(replace(programme, steps=steps)):
                    programme = replace(programme, steps=steps)
    return programme
