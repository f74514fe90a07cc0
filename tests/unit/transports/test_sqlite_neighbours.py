"""Whom a batch concerns, as far as a letter is concerned."""

import pytest

from channels_trunk.envelope import Envelope, Kind
from channels_trunk.transports.sqlite.neighbours import Neighbours

HERE, THERE, OTHER = (f"tk{letter * 16}" for letter in "abc")


def _mailbox(node: str) -> Envelope:
    return Envelope(Kind.MAILBOX, f"specific.{node}!1", 2e9, b"")


GROUP = Envelope(Kind.GROUP, "room", 2e9, b"")
CONTROL = Envelope(Kind.CONTROL, THERE, 2e9, b"")


@pytest.mark.parametrize(
    ("batch", "alone", "node"),
    [
        ([_mailbox(THERE)], False, THERE),
        ([_mailbox(THERE), _mailbox(THERE)], False, THERE),
        ([_mailbox(THERE), _mailbox(OTHER)], False, None),
        ([_mailbox(THERE), GROUP], False, None),
        ([GROUP], False, None),
        ([GROUP], True, THERE),
        ([GROUP, _mailbox(THERE), GROUP], True, THERE),
        ([GROUP, _mailbox(OTHER)], True, None),
        ([_mailbox(OTHER), GROUP], True, None),
        ([CONTROL], True, None),
        ([GROUP, CONTROL], True, None),
        ([_mailbox(THERE), CONTROL], False, None),
    ],
)
def test_one_node_alone_may_get_a_letter(batch: list[Envelope], alone: bool, node: str | None) -> None:
    neighbours = Neighbours(HERE, "asgi", lambda _node, told: told)
    neighbours.only = THERE if alone else None
    assert neighbours.addressee(batch) == node
