"""In how few words messages are acknowledged or given back, and that no other message is meant by them."""

from hypothesis import given
from hypothesis import strategies as st

from channels_trunk.transports.rabbitmq.tags import Tags


def test_what_comes_next_is_settled_in_one_word() -> None:
    tags = Tags()
    assert tags.settle([1]) == [(1, False)]
    assert tags.settle([2, 3, 4]) == [(4, True)]


def test_what_comes_behind_others_is_settled_one_by_one() -> None:
    tags = Tags()
    assert tags.settle([2, 3]) == [(2, False), (3, False)]
    assert tags.settle([1]) == [(1, False)]
    assert tags.settle([4, 5]) == [(5, True)]


def test_some_together_and_some_by_themselves() -> None:
    assert Tags().settle([1, 2, 4]) == [(2, True), (4, False)]


@given(st.permutations(range(1, 21)), st.lists(st.integers(1, 5)))
def test_each_is_settled_once_and_with_its_own(order: list[int], sizes: list[int]) -> None:
    tags, open_tags = Tags(), set(range(1, 21))
    for size in [*sizes, len(order)]:
        asked, order = sorted(order[:size]), order[size:]
        meant: set[int] = set()
        for tag, multiple in tags.settle(asked):
            assert tag in open_tags  # a broker closes the channel for one that is not
            word = {other for other in open_tags if other <= tag} if multiple else {tag}
            meant |= word
            open_tags -= word
        assert meant == set(asked)
