"""In django.test.TestCase nothing commits: what captureOnCommitCallbacks() executes is sent, and no more."""

from typing import Any, ClassVar

from django.db import connections, transaction
from django.test import TestCase, TransactionTestCase

from channels_trunk.layers import MemoryChannelLayer


def n(number: int) -> dict[str, object]:
    return {"type": "x", "n": number}


class Hearing:
    """The sender, and what it has sent so far."""

    layer: MemoryChannelLayer

    def open(self, prefix: str) -> None:
        self.layer = MemoryChannelLayer(prefix=prefix)
        self.channel = self.layer.sync.new_channel()

    def send(self, number: int) -> None:
        self.layer.sync.send_on_commit(self.channel, n(number))

    def heard(self) -> list[Any]:
        self.layer.sync.send(self.channel, n(-1))
        numbers = []
        while (number := self.layer.sync.receive(self.channel, timeout=10)["n"]) != -1:
            numbers.append(number)
        return numbers


class TestInATestCase(Hearing, TestCase):
    databases: ClassVar[set[str]] = {"default"}

    def setUp(self) -> None:
        self.open(self.id()[-90:])
        self.addCleanup(self.layer.sync.close)

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        connections.close_all()

    def test_nothing_is_sent_by_itself(self) -> None:
        self.send(1)
        with transaction.atomic():
            self.send(2)
        assert self.heard() == []

    def test_what_is_executed_is_sent(self) -> None:
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            with transaction.atomic():
                self.send(1)
                self.send(2)
            assert self.heard() == []
        assert len(callbacks) == 2
        assert self.heard() == [1, 2]

    def test_each_block_sends_its_own(self) -> None:
        self.send(1)
        with self.captureOnCommitCallbacks(execute=True):
            self.send(2)
        assert self.heard() == [2]
        with self.captureOnCommitCallbacks(execute=True):
            self.send(3)
            with transaction.atomic():
                self.send(4)
        assert self.heard() == [3, 4]
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            pass
        assert callbacks == []
        assert self.heard() == []

    def test_a_savepoint_that_is_rolled_back_is_not_captured(self) -> None:
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            self.send(1)
            try:
                with transaction.atomic():
                    self.send(2)
                    raise ZeroDivisionError
            except ZeroDivisionError:
                pass
            self.send(3)
        assert len(callbacks) == 2
        assert self.heard() == [1, 3]

    def test_callbacks_that_are_called_by_hand(self) -> None:
        with self.captureOnCommitCallbacks() as callbacks:
            self.send(1)
        assert self.heard() == []
        for _ in range(2):
            for callback in callbacks:
                callback()
        assert self.heard() == [1]

    def test_a_callback_that_sends(self) -> None:
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            transaction.on_commit(lambda: self.send(2))
            self.send(1)
        assert len(callbacks) == 3
        assert self.heard() == [1, 2]


class TestInATransactionTestCase(Hearing, TransactionTestCase):
    databases: ClassVar[set[str]] = {"default"}

    def _fixture_teardown(self) -> None:
        """There are no tables to flush."""

    def setUp(self) -> None:
        self.open(self.id()[-90:])
        self.addCleanup(self.layer.sync.close)

    def test_a_commit_is_a_commit(self) -> None:
        with transaction.atomic():
            self.send(1)
            assert self.heard() == []
        assert self.heard() == [1]
