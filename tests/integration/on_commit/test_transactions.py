"""send_on_commit and group_send_on_commit in transactions of every shape, on a real database."""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from django.db import connections, transaction
from django.db.transaction import TransactionManagementError
from django.db.utils import ConnectionDoesNotExist

from channels_trunk.exceptions import EncodeError
from channels_trunk.layers.base import TrunkChannelLayer
from tests.integration.on_commit.conftest import Database, Listener, MakeLayer


def n(number: int) -> dict[str, object]:
    return {"type": "x", "n": number}


def sent(layer: TrunkChannelLayer) -> tuple[int, int]:
    """How many envelopes the transport took, and in how many batches."""
    stats = layer.stats()
    return stats.sent_total, stats.batches_total


def still_waiting(layer: TrunkChannelLayer, db: Database) -> int:
    """How many messages are kept for the thread's connection."""
    gc.collect()
    return len(layer._on_commit._waiting[connections[db.alias]])


@contextmanager
def rolled_back(alias: str) -> Iterator[None]:
    """A block that ends with an error."""
    with suppress(ZeroDivisionError), transaction.atomic(using=alias):
        yield
        raise ZeroDivisionError


@contextmanager
def with_an_error_after_the_commit(alias: str) -> Iterator[None]:
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=alias):
        yield


def test_messages_go_after_the_commit_in_order_and_in_one_batch(
    db: Database, layer: TrunkChannelLayer, listener: Listener
) -> None:
    before = sent(layer)
    with transaction.atomic(using=db.alias):
        db.write("a")
        for number in range(10):
            layer.sync.group_send_on_commit("room", n(number), using=db.alias)
            layer.sync.send_on_commit(listener.channel, n(100 + number), using=db.alias)
        assert sent(layer) == before
        assert layer.stats().outbox_current == 0
    # When the block has ended they are with the transport.
    assert sent(layer) == (before[0] + 20, before[1] + 1)
    assert db.notes() == ["a"]
    assert listener.hears(*(number for pair in zip(range(10), range(100, 110), strict=True) for number in pair))


def test_the_first_use_of_a_layer_makes_one_batch_as_well(
    db: Database, make_layer: MakeLayer, listener: Listener
) -> None:
    layer = make_layer()
    with transaction.atomic(using=db.alias):
        for number in range(5):
            layer.sync.group_send_on_commit("room", n(number), using=db.alias)
        assert layer.health().state == "closed", "nothing is opened inside of the transaction"
    assert sent(layer) == (5, 1)
    assert listener.hears(*range(5))


def test_a_transaction_that_is_rolled_back_sends_nothing(
    db: Database, layer: TrunkChannelLayer, listener: Listener
) -> None:
    with rolled_back(db.alias):
        layer.sync.group_send_on_commit("room", n(1), using=db.alias)
    with transaction.atomic(using=db.alias):
        layer.sync.group_send_on_commit("room", n(2), using=db.alias)
        transaction.set_rollback(True, using=db.alias)
    with transaction.atomic(using=db.alias):
        layer.sync.group_send_on_commit("room", n(3), using=db.alias)
    assert listener.hears(3)
    assert still_waiting(layer, db) == 0


@pytest.mark.parametrize("lost", range(4))
def test_what_belongs_to_a_savepoint_that_is_rolled_back_does_not_go(
    lost: int, db: Database, layer: TrunkChannelLayer, listener: Listener
) -> None:
    """One of four neighbours is rolled back: the first, one in the middle, the last; an inner one goes with it."""
    before, held = sent(layer), []
    with transaction.atomic(using=db.alias):
        for number in range(4):
            try:
                with transaction.atomic(using=db.alias):
                    layer.sync.group_send_on_commit("room", n(number), using=db.alias)
                    with transaction.atomic(using=db.alias):
                        layer.sync.group_send_on_commit("room", n(10 + number), using=db.alias)
                    if number == lost:
                        raise ZeroDivisionError
            except ZeroDivisionError as error:
                held.append(error)  # its traceback with it
    assert sent(layer) == (before[0] + 6, before[1] + 1)
    assert listener.hears(*(number for pair in range(4) if pair != lost for number in (pair, 10 + pair)))


def test_an_inner_savepoint_alone_is_rolled_back(db: Database, layer: TrunkChannelLayer, listener: Listener) -> None:
    with transaction.atomic(using=db.alias):
        layer.sync.group_send_on_commit("room", n(1), using=db.alias)
        with transaction.atomic(using=db.alias):
            layer.sync.group_send_on_commit("room", n(2), using=db.alias)
            with rolled_back(db.alias):
                layer.sync.group_send_on_commit("room", n(3), using=db.alias)
            layer.sync.group_send_on_commit("room", n(4), using=db.alias)
        with transaction.atomic(using=db.alias, savepoint=False):
            layer.sync.group_send_on_commit("room", n(5), using=db.alias)
    assert listener.hears(1, 2, 4, 5)


def test_a_durable_block_and_the_next_one(db: Database, layer: TrunkChannelLayer, listener: Listener) -> None:
    for number in (1, 2):
        with transaction.atomic(using=db.alias, durable=True):
            layer.sync.group_send_on_commit("room", n(number), using=db.alias)
    assert listener.hears(1, 2)


def test_outside_of_a_transaction_it_goes_at_once(db: Database, layer: TrunkChannelLayer, listener: Listener) -> None:
    layer.sync.group_send_on_commit("room", n(1), using=db.alias)
    layer.sync.send_on_commit(listener.channel, n(2), using=db.alias)
    assert listener.hears(1, 2)


def test_without_using_it_is_the_default_database(layer: TrunkChannelLayer, listener: Listener) -> None:
    with transaction.atomic():
        layer.sync.group_send_on_commit("room", n(1))
        layer.sync.send_on_commit(listener.channel, n(2))
        assert listener.hears()
    assert listener.hears(1, 2)


def test_each_database_commits_for_itself(
    db: Database, other_db: Database, layer: TrunkChannelLayer, listener: Listener
) -> None:
    with transaction.atomic(using=db.alias):
        layer.sync.group_send_on_commit("room", n(1), using=db.alias)
        with transaction.atomic(using=other_db.alias):
            layer.sync.group_send_on_commit("room", n(2), using=other_db.alias)
            layer.sync.group_send_on_commit("room", n(3), using=db.alias)
        assert listener.hears(2)
        with rolled_back(other_db.alias):
            layer.sync.group_send_on_commit("room", n(4), using=other_db.alias)
        assert listener.hears()
    assert listener.hears(1, 3)


def test_each_layer_has_a_batch_of_its_own(db: Database, make_layer: MakeLayer, listener: Listener) -> None:
    one, two = make_layer(), make_layer()
    with transaction.atomic(using=db.alias):
        for number in (1, 2, 3):
            one.sync.group_send_on_commit("room", n(number), using=db.alias)
            two.sync.group_send_on_commit("room", n(10 + number), using=db.alias)
    assert sent(one) == sent(two) == (3, 1)
    assert listener.hears(1, 2, 3, 11, 12, 13)


def test_threads_have_transactions_of_their_own(db: Database, layer: TrunkChannelLayer, listener: Listener) -> None:
    def other_thread() -> None:
        try:
            with transaction.atomic(using=db.alias):
                layer.sync.group_send_on_commit("room", n(2), using=db.alias)
        finally:
            connections[db.alias].close()

    with transaction.atomic(using=db.alias):
        layer.sync.group_send_on_commit("room", n(1), using=db.alias)
        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
        assert listener.hears(2)
    assert listener.hears(1)


def test_what_a_callback_sends_goes_at_once(db: Database, layer: TrunkChannelLayer, listener: Listener) -> None:
    """Behind the messages of the transaction, as they go with the first of them."""

    def callback() -> None:
        layer.sync.group_send_on_commit("room", n(3), using=db.alias)
        with transaction.atomic(using=db.alias):
            layer.sync.group_send_on_commit("room", n(4), using=db.alias)

    with transaction.atomic(using=db.alias):
        layer.sync.group_send_on_commit("room", n(1), using=db.alias)
        transaction.on_commit(callback, using=db.alias)
        layer.sync.group_send_on_commit("room", n(2), using=db.alias)
    assert listener.hears(1, 2, 3, 4)


def test_a_callback_that_raises_keeps_none_back_that_was_sent_before_it(
    db: Database, layer: TrunkChannelLayer, listener: Listener
) -> None:
    def callback() -> None:
        raise ZeroDivisionError

    with with_an_error_after_the_commit(db.alias):
        layer.sync.group_send_on_commit("room", n(1), using=db.alias)
        transaction.on_commit(callback, using=db.alias)
        layer.sync.group_send_on_commit("room", n(2), using=db.alias)
    assert listener.hears(1, 2)
    # Where the callback comes first, Django runs nothing behind it, and what it has not run is not sent later.
    with with_an_error_after_the_commit(db.alias):
        transaction.on_commit(callback, using=db.alias)
        layer.sync.group_send_on_commit("room", n(3), using=db.alias)
    with transaction.atomic(using=db.alias):
        layer.sync.group_send_on_commit("room", n(4), using=db.alias)
    assert listener.hears(4)


def test_it_is_packed_and_checked_by_the_call(db: Database, layer: TrunkChannelLayer, listener: Listener) -> None:
    message: dict[str, object] = {"type": "x", "n": 1, "list": [1]}
    with transaction.atomic(using=db.alias):
        layer.sync.group_send_on_commit("room", message, using=db.alias)
        message["n"] = 2
        for send, name in (
            (layer.sync.send_on_commit, "Channel"),
            (layer.sync.group_send_on_commit, "Group"),
        ):
            with pytest.raises(TypeError, match=f"^{name} name must be"):
                send("no name!!", n(3), using=db.alias)
            with pytest.raises(EncodeError, match=r"^message\['n'\]: a value of type builtins.set cannot be packed$"):
                send("room", {"type": "x", "n": {1}}, using=db.alias)
            with pytest.raises(TypeError, match=r"^message must be a dict, not list$"):
                send("room", [], using=db.alias)  # type: ignore[arg-type]
    assert listener.hears(1)


def test_a_message_that_is_too_large_is_refused_by_the_call(db: Database, make_layer: MakeLayer) -> None:
    from channels.exceptions import MessageTooLarge

    layer = make_layer(max_message_size=100)
    with transaction.atomic(using=db.alias), pytest.raises(MessageTooLarge):
        layer.sync.group_send_on_commit("room", {"type": "x" * 200}, using=db.alias)


def test_a_database_that_is_not_there(layer: TrunkChannelLayer) -> None:
    with pytest.raises(ConnectionDoesNotExist, match="'nope'"):
        layer.sync.group_send_on_commit("room", n(1), using="nope")


def test_manual_transactions_are_refused_as_django_does(db: Database, layer: TrunkChannelLayer) -> None:
    transaction.set_autocommit(False, using=db.alias)
    try:
        with pytest.raises(TransactionManagementError, match="on_commit"):
            layer.sync.group_send_on_commit("room", n(1), using=db.alias)
    finally:
        transaction.rollback(using=db.alias)
        transaction.set_autocommit(True, using=db.alias)


def test_ten_thousand_messages_of_one_transaction(db: Database, make_layer: MakeLayer) -> None:
    """As many as a batch takes go in one; nothing is kept of them afterwards."""
    layer, worker = make_layer(capacity=20_000), make_layer(capacity=20_000)
    layer.sync.new_channel()
    before = sent(layer)
    with transaction.atomic(using=db.alias):
        for number in range(10_000):
            layer.sync.send_on_commit("jobs", n(number), using=db.alias)
    assert sent(layer) == (before[0] + 10_000, before[1] + 20)
    assert still_waiting(layer, db) == 0
    assert [worker.sync.receive("jobs", timeout=10)["n"] for _ in range(100)] == list(range(100))
