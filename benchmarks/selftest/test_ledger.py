"""A ledger that cannot show a fault would prove nothing."""

from __future__ import annotations

import pytest
from channels.layers import InMemoryChannelLayer
from trunkbench.layer import Message, collect, make_message, running, until_received
from trunkbench.ledger import Account, Ledger, add_up


def entered(*numbers: int, sent: int) -> Account:
    """The account of one sender whose numbers arrived so."""
    ledger = Ledger(senders=1)
    for number in numbers:
        ledger.note(0, number)
    return ledger.close([sent])


@pytest.mark.parametrize(
    ("numbers", "lost", "duplicated", "disordered"),
    [
        ((0, 1, 2, 3), 0, 0, 0),
        ((0, 1, 3), 1, 0, 0),
        ((0, 1), 2, 0, 0),
        ((), 4, 0, 0),
        ((0, 1, 1, 2, 3), 0, 1, 0),
        ((0, 1, 2, 3, 0, 3), 0, 2, 0),
        ((0, 2, 1, 3), 0, 0, 1),
        ((3, 2, 1, 0), 0, 0, 3),
        ((3, 2, 2, 0), 1, 1, 2),
    ],
)
def test_each_fault_is_counted(numbers: tuple[int, ...], lost: int, duplicated: int, disordered: int) -> None:
    """Losses at the end and in the middle, repeats, and late arrivals."""
    account = entered(*numbers, sent=4)
    assert (account.lost, account.duplicated, account.disordered) == (lost, duplicated, disordered)
    assert account.clean is not any((lost, duplicated, disordered))
    assert account.received == len(numbers)


def test_senders_are_told_apart() -> None:
    """Order holds per sender; between senders there is none."""
    ledger = Ledger(senders=2)
    for sender, number in ((1, 0), (0, 0), (1, 1), (0, 1)):
        ledger.note(sender, number)
    assert ledger.close([2, 2]).clean
    assert ledger.close([2, 3]).lost == 1


def test_accounts_add_up_and_describe_their_faults() -> None:
    """The report shows the faults of all rounds together."""
    total = add_up([Account(sent=4, lost=1), Account(sent=4, lost=1, duplicated=2), Account()])
    assert total == Account(sent=8, lost=2, duplicated=2)
    assert total.describe() == "2 lost, 2 twice"
    assert Account().describe() == ""


class FaultyLayer(InMemoryChannelLayer):
    """Loses number 10, repeats number 20, and lets number 30 overtake number 29."""

    def __init__(self) -> None:
        super().__init__(capacity=1000)
        self._held: Message | None = None

    async def send(self, channel: str, message: Message) -> None:
        """Send with the faults."""
        number = message["n"]
        if number == 29:
            self._held = message
        elif number != 10:
            await super().send(channel, message)
        if number == 20:
            await super().send(channel, message)
        if number == 30 and self._held is not None:
            await super().send(channel, self._held)


async def test_a_faulty_layer_is_found_out() -> None:
    """The workloads' own receiving code over a layer with one fault of each kind."""
    layer, ledger = FaultyLayer(), Ledger(senders=1)
    channel = await layer.new_channel()
    async with running([collect(layer, channel, ledger=ledger)]):
        for number in range(50):
            await layer.send(channel, make_message(0, number))
        await until_received(ledger, 50, patience=20)
    assert ledger.close([50]) == Account(sent=50, received=50, lost=1, duplicated=1, disordered=1)
