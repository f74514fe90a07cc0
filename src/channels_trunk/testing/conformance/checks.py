"""What several rules check alike."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from channels_trunk.testing.layer import Message
from channels_trunk.testing.ledger import audit
from channels_trunk.testing.waiting import eventually

__all__ = ["MARK", "Node", "assert_clean", "assert_complete", "assert_nothing_waits", "refused", "with_stragglers"]

MARK: Message = {"type": "mark"}


class Node(Protocol):
    """A peer, or this side: Commands and Peer alike."""

    patience: float

    async def send(self, channel: str, message: Message) -> None:
        """Send one message."""

    async def receive(self, channel: str, *, within: float = ...) -> Message:
        """Receive one message."""

    async def group_send(self, group: str, message: Message) -> None:
        """Send to a group."""

    async def has_room(self, channel: str, message: Message) -> bool:
        """Send unless the channel is full."""

    async def collect(self, channel: str, *, count: int, within: float = ...) -> list[Message]:
        """Receive up to `count` messages, until none has come for so long; return what came."""


def assert_clean(received: Sequence[Mapping[str, Any]], *, sent: Mapping[str, int]) -> None:
    """Fail unless each numbered message came once and in its sender's order."""
    result = audit(received, sent=sent)
    if not result.clean:
        raise AssertionError(str(result))  # not by assert, which would show every entry


def assert_complete(received: Sequence[Mapping[str, Any]], *, sent: Mapping[str, int]) -> None:
    """Fail unless each numbered message came once, in whatever order."""
    result = audit(received, sent=sent)
    if not result.complete:
        raise AssertionError(str(result))  # not by assert, which would show every entry


async def with_stragglers(got: Iterable[Sequence[Message]], reader: Node, channel: str, *, count: int) -> list[Message]:
    """What all readers of a normal channel got until each had its END, and what came to stand behind these.

    What one process gives back, another finds behind what it has taken meanwhile: between processes there is no order.
    """
    received = [message for messages in got for message in messages]
    missing = count - len(received)
    return received + (await reader.collect(channel, count=missing, within=10) if missing > 0 else [])


@contextlib.contextmanager
def refused(value: object, *, match: str = "") -> Iterator[None]:
    """Fail, naming `value`, unless the block raises a TypeError whose text matches."""
    try:
        yield
    except TypeError as error:
        if not re.search(match, str(error)):
            raise AssertionError(f"for {value!r}, the text of the TypeError does not match {match!r}") from error
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}, not TypeError, for {value!r}") from error
    else:
        raise AssertionError(f"no TypeError for {value!r}")


async def assert_nothing_waits(reader: Node, channel: str, *, sender: Node | None = None) -> None:
    """Fail if the channel holds anything, without waiting for what should not come.

    A mark is sent after whatever `sender` sent before: messages of one sender keep their order, so that whatever comes
    before the mark was there, and what has not come by then will not come.
    """
    writer = sender or reader
    # Another node may hear a little late that a channel has room again.
    await eventually(lambda: writer.has_room(channel, MARK), within=20 * writer.patience)
    got = await reader.receive(channel)
    assert got == MARK, f"{channel} still held {got!r}"
