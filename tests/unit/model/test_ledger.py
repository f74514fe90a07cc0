"""The ledger of nodes that act at once."""

import pytest

from channels_trunk.testing.model.ledger import ModelLedger, Sent


@pytest.fixture
def ledger() -> ModelLedger:
    return ModelLedger()


def send(ledger: ModelLedger, number: int, to: str, *, sender: int = 0, taken: bool = True) -> None:
    ledger.sent[number] = Sent(number, sender, to, to == "g", ledger.moment(), taken)


def test_clean(ledger: ModelLedger) -> None:
    ledger.joined(ledger.joins("g", "1a"))
    send(ledger, 1, "1a")
    send(ledger, 2, "g")
    ledger.got["1a"] += [1, 2]
    assert list(ledger.faults()) == []


@pytest.mark.parametrize(
    ("got", "words"),
    [
        ([1], "lost, and no gap told of it: 2 of 0 in 1a"),
        ([1, 2, 2], "came 2 times: 2 of 0 in 1a"),
        ([2, 1], "disorder: 1 of 0 in 1a, behind 2"),
        ([1, 2, 3], "was not for it: 3 of 0 in 1a"),
    ],
)
def test_faults(ledger: ModelLedger, got: list[int], words: str) -> None:
    for number, to in ((1, "1a"), (2, "1a"), (3, "jobs")):
        send(ledger, number, to, taken=number < 3)
    ledger.got["1a"] += got
    assert list(ledger.faults()) == [words]


def test_loss_that_was_told(ledger: ModelLedger) -> None:
    send(ledger, 1, "1a")
    ledger.gaps.add(2)
    assert list(ledger.faults())
    ledger.gaps.add(1)
    assert not list(ledger.faults())


def test_what_nobody_knows_may_come(ledger: ModelLedger) -> None:
    send(ledger, 1, "1a", taken=False)
    assert not list(ledger.faults())
    ledger.got["1a"] += [1]
    assert not list(ledger.faults())


def test_member_for_sure_is_who_joined_before_and_has_not_left(ledger: ModelLedger) -> None:
    membership = ledger.joins("g", "1a")
    send(ledger, 1, "g")
    ledger.joined(membership)
    assert not list(ledger.faults())
    send(ledger, 2, "g")
    assert ledger.missing("1a") == [2]
    with ledger.leaves("g", "1a"):
        ledger.joined(ledger.joins("g", "1a"))
        send(ledger, 3, "g")
    assert not ledger.missing("1a")


def test_jobs_are_in_no_order_and_go_with_a_killed_reader(ledger: ModelLedger) -> None:
    send(ledger, 1, "jobs")
    send(ledger, 2, "jobs")
    ledger.got["jobs"] += [2]
    assert list(ledger.faults()) == ["lost, and no gap told of it: 1 of 0 in jobs"]
    ledger.gone.add(2)
    assert not list(ledger.faults())


def test_restored_jobs_may_come_again(ledger: ModelLedger) -> None:
    send(ledger, 1, "jobs")
    send(ledger, 2, "1a")
    ledger.got["jobs"] += [1, 1]
    ledger.got["1a"] += [2, 2]
    assert len(list(ledger.faults())) == 2
    ledger.restored = True
    assert list(ledger.faults()) == ["came 2 times: 2 of 0 in 1a"]
