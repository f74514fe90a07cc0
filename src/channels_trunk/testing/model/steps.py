"""The steps that programmes are made of. A step's repr is the code that makes it."""

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "GAP",
    "GROUPS",
    "Add",
    "Close",
    "Copy",
    "Cut",
    "Discard",
    "Expire",
    "Flush",
    "How",
    "Kill",
    "Listen",
    "Lose",
    "New",
    "Programme",
    "Receive",
    "Renew",
    "Restore",
    "Send",
    "Step",
    "Stop",
    "is_small",
    "owner_of",
]

GAP = 0
"""The number of the gap event; those of messages begin with 1."""
GROUPS = ("g", "h")

How = Literal["one by one", "in one tick", "on commit", "blocking"]


def owner_of(channel: str) -> int | None:
    """Return the node whose channel it is ("1a" is channel a of node 1), or None: it is a normal channel."""
    return int(channel[0]) if channel[0].isdigit() else None


def is_small(channel: str) -> bool:
    """Return whether the channel holds few messages: "1b" and "small" do."""
    return channel == "small" or channel.endswith("b")


@dataclass(frozen=True)
class New:
    """The name stands for a new channel from now on; what it stood for is left as it is."""

    channel: str


@dataclass(frozen=True)
class Send:
    """A node sends one message to each of these channels and groups."""

    node: int
    to: tuple[str, ...]
    how: How = "one by one"


@dataclass(frozen=True)
class Add:
    """A node adds a channel, its own, another's, or a normal one, to a group."""

    node: int
    group: str
    channel: str


@dataclass(frozen=True)
class Discard:
    """A node takes a channel out of a group."""

    node: int
    group: str
    channel: str


@dataclass(frozen=True)
class Receive:
    """A node receives the next message of a channel; if there is none to come, it is proved that there is none."""

    node: int
    channel: str


@dataclass(frozen=True)
class Listen:
    """A node begins to receive from a channel, and goes on while other steps are made."""

    node: int
    channel: str


@dataclass(frozen=True)
class Stop:
    """The receive that Listen began is cancelled, or has its message by now."""

    node: int
    channel: str


@dataclass(frozen=True)
class Flush:
    """A node flushes."""

    node: int


@dataclass(frozen=True)
class Close:
    """A node closes its layer; the next step that needs it opens it again."""

    node: int


@dataclass(frozen=True)
class Renew:
    """A node ends in good order, and another comes late, in its place."""

    node: int


@dataclass(frozen=True)
class Kill:
    """A node's process is killed, and another comes late, in its place."""

    node: int


@dataclass(frozen=True)
class Cut:
    """Every connection to the engine is cut."""


@dataclass(frozen=True)
class Expire:
    """So much time passes that what waits is too old."""


@dataclass(frozen=True)
class Lose:
    """The engine loses what it holds, or some of it, in the way of this name."""

    way: str


@dataclass(frozen=True)
class Copy:
    """Somebody copies what the engine holds."""


@dataclass(frozen=True)
class Restore:
    """What the engine holds is replaced by the latest copy, if there is one."""


Step = (
    New | Send | Add | Discard | Receive | Listen | Stop | Flush | Close | Renew | Kill
    | Cut | Expire | Lose | Copy | Restore
)  # fmt: skip


@dataclass(frozen=True)
class Programme:
    """Steps, one after the other, or, with `at_once`, each node's beside those of the others."""

    steps: tuple[Step, ...]
    nodes: int = 3
    at_once: bool = False

    def __repr__(self) -> str:
        lines = "".join(f"    {step!r},\n" for step in self.steps)
        return f"Programme((\n{lines}), nodes={self.nodes}, at_once={self.at_once})"
