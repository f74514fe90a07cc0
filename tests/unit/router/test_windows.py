"""Windows: a simulated owner and several senders over links that keep the order and take as long as they like."""

from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from channels_trunk.router import ANSWER_WITHIN, Verdict, Windows

CAPACITY = 6
SENDERS = 5
EXPIRY = 60.0
CHANNEL = "channel"
GOES = {Verdict.GO, Verdict.GO_AND_ASK}
ASKS = {Verdict.GO_AND_ASK, Verdict.ASK_AND_WAIT, Verdict.ASK_AND_FULL}
AGAIN = 1.1  # seconds after which an unanswered question is asked again


class Link:
    """One sender and what is on its way to the owner and back."""

    def __init__(self) -> None:
        self.windows = Windows(expiry=EXPIRY)
        self.up: deque[tuple[str, float]] = deque()  # ("message", expires at) or ("question", number)
        self.down: deque[tuple[str, int, int]] = deque()  # (kind, number, room)
        self.waiting: set[int] = set()
        self.is_answered = False  # whether the last question was

    def send(self, now: float) -> Verdict:
        verdict = self.windows.spend(CHANNEL, CAPACITY, now)
        if verdict in GOES:
            self.up.append(("message", now + EXPIRY))
        if verdict in ASKS:
            self.is_answered = False
            self.up.append(("question", self.windows.question(CHANNEL)))
        return verdict

    def hear(self, now: float) -> list[Any]:
        kind, number, room = self.down.popleft()
        if kind == "room":
            self.is_answered = len(self.windows) > 0 and self.windows.question(CHANNEL) == number
            return self.windows.answer(CHANNEL, number, room, now)
        return self.windows.drained(CHANNEL, room)


class Owner:
    """The mailbox, as the hub keeps it."""

    def __init__(self) -> None:
        self.messages: deque[float] = deque()
        self.said_full = False

    def room(self, now: float) -> int:
        return CAPACITY - sum(1 for expires in self.messages if expires > now)


class WindowsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.owner = Owner()
        self.links = [Link() for _ in range(SENDERS)]
        self.waiters = 0

    @rule(link=st.integers(0, SENDERS - 1), count=st.integers(1, 2 * CAPACITY))
    def send(self, link: int, count: int) -> None:
        for _ in range(count):
            verdict = self.links[link].send(self.now)
            if verdict in (Verdict.WAIT, Verdict.ASK_AND_WAIT):
                self.waiters += 1
                self.links[link].windows.wait(CHANNEL, self.waiters)
                self.links[link].waiting.add(self.waiters)

    @rule()
    def send_from_the_owners_process(self) -> None:
        if self.owner.room(self.now) > 0:
            self.owner.messages.append(self.now + EXPIRY)

    @rule(link=st.integers(0, SENDERS - 1), count=st.integers(1, 20))
    def owner_hears(self, link: int, count: int) -> None:
        for _ in range(min(count, len(self.links[link].up))):
            self._arrive(self.links[link])

    def _arrive(self, link: Link) -> None:
        kind, value = link.up.popleft()
        if kind == "message":
            if value > self.now:
                self.owner.messages.append(value)
            return
        room = max(0, self.owner.room(self.now))
        self.owner.said_full = self.owner.said_full or room == 0
        link.down.append(("room", int(value), room))

    @rule(link=st.integers(0, SENDERS - 1), count=st.integers(1, 20))
    def sender_hears(self, link: int, count: int) -> None:
        for _ in range(min(count, len(self.links[link].down))):
            self.links[link].waiting -= set(self.links[link].hear(self.now))

    @rule(link=st.integers(0, SENDERS - 1))
    def answer_is_lost(self, link: int) -> None:
        if self.links[link].down:
            self.links[link].down.popleft()

    @rule(link=st.integers(0, SENDERS - 1))
    def question_is_lost(self, link: int) -> None:
        up = self.links[link].up
        if up and up[0][0] == "question":
            up.popleft()

    @rule(count=st.integers(1, 2 * CAPACITY))
    def read(self, count: int) -> None:
        for _ in range(min(count, len(self.owner.messages))):
            self.owner.messages.popleft()
            room = self.owner.room(self.now)
            if self.owner.said_full and room * 2 >= CAPACITY:
                self.owner.said_full = False
                for link in self.links:
                    link.down.append(("drained", 0, room))

    @rule(seconds=st.sampled_from([0.01, ANSWER_WITHIN * 1.1, AGAIN, EXPIRY / 2, EXPIRY * 1.1]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.owner.messages = deque(expires for expires in self.owner.messages if expires > self.now)
        if seconds > ANSWER_WITHIN:
            for link in self.links:
                link.waiting.clear()  # senders do not wait longer than that, but try again

    @rule(link=st.integers(0, SENDERS - 1))
    def windows_are_pruned(self, link: int) -> None:
        self.links[link].waiting -= set(self.links[link].windows.prune(self.now))

    @rule(link=st.integers(0, SENDERS - 1))
    def sender_is_flushed_after_its_link_was_heard(self, link: int) -> None:
        """A flush empties the mailbox, too; what is under way by then has been heard."""
        while self.links[link].up:
            self._arrive(self.links[link])

    @invariant()
    def what_was_accepted_has_a_place(self) -> None:
        """Each sender has at most one capacity under way or in the mailbox; so has the owner's own process."""
        assert len(self.owner.messages) <= (SENDERS + 1) * CAPACITY

    @invariant()
    def no_more_is_under_way_than_the_senders_may_have(self) -> None:
        under_way = sum(kind == "message" and value > self.now for link in self.links for kind, value in link.up)
        assert len(self.owner.messages) + under_way <= (SENDERS + 1) * CAPACITY

    def teardown(self) -> None:
        """Once the mailbox is read and the links are quiet, each sender can send, and nobody waits for ever."""
        for _ in range(3):
            for link in self.links:
                while link.up:
                    self._arrive(link)
            self.read(count=10**6)
            for link in self.links:
                while link.down:
                    link.waiting -= set(link.hear(self.now))
        for link in self.links:
            sent = False
            for _ in range(4):
                sent = sent or link.send(self.now) in GOES
                while link.up:
                    self._arrive(link)
                self.owner.messages.clear()
                while link.down:
                    link.waiting -= set(link.hear(self.now))
                assert not (link.waiting and link.is_answered), "a sender waits although the question was answered"
                self.now += AGAIN
                link.waiting.clear()  # as in time_passes: the answer may be lost
            assert sent, "a sender is shut out although there is room"


TestWindowsMachine = WindowsMachine.TestCase
TestWindowsMachine.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)


def test_a_lost_answer_keeps_nobody_waiting() -> None:
    """A programme in which the model once took one who had given up for one who waits."""
    machine = WindowsMachine()
    machine.send(link=0, count=CAPACITY)
    for _ in range(2):
        machine.time_passes(EXPIRY / 2)
    machine.sender_is_flushed_after_its_link_was_heard(0)
    machine.answer_is_lost(0)
    machine.send(link=0, count=2)
    machine.owner_hears(link=0, count=1)
    machine.answer_is_lost(0)
    machine.teardown()


def spend_all(windows: Windows, now: float = 0.0) -> list[Verdict]:
    return [windows.spend(CHANNEL, CAPACITY, now) for _ in range(CAPACITY)]


def test_half_of_the_window_is_spent_before_the_owner_is_asked() -> None:
    windows = Windows(expiry=EXPIRY)
    assert spend_all(windows) == [Verdict.GO] * 2 + [Verdict.GO_AND_ASK] + [Verdict.GO] * 3
    assert windows.spend(CHANNEL, CAPACITY, 0.0) is Verdict.WAIT
    assert windows.spend(CHANNEL, CAPACITY, ANSWER_WITHIN + 0.01) is Verdict.FULL
    assert windows.spend(CHANNEL, CAPACITY, AGAIN) is Verdict.ASK_AND_FULL


def test_answer_counts_what_was_sent_behind_the_question() -> None:
    windows = Windows(expiry=EXPIRY)
    spend_all(windows)
    windows.wait(CHANNEL, "waiter")
    assert windows.answer(CHANNEL, windows.question(CHANNEL), CAPACITY, 0.0) == ["waiter"]
    # Three were sent behind the question, so three of the six places are left.
    assert [windows.spend(CHANNEL, CAPACITY, 0.0) in GOES for _ in range(4)] == [True, True, True, False]


def test_stale_answer_is_no_answer() -> None:
    windows = Windows(expiry=EXPIRY)
    spend_all(windows)
    number = windows.question(CHANNEL)
    assert windows.spend(CHANNEL, CAPACITY, AGAIN) is Verdict.ASK_AND_FULL
    assert windows.answer(CHANNEL, number, CAPACITY, AGAIN) == []
    assert windows.spend(CHANNEL, CAPACITY, AGAIN) not in GOES


def test_answer_to_a_question_of_before_a_flush_is_stale() -> None:
    windows = Windows(expiry=EXPIRY)
    spend_all(windows)
    number = windows.question(CHANNEL)
    windows.clear()
    spend_all(windows)
    assert windows.question(CHANNEL) != number
    windows.answer(CHANNEL, number, CAPACITY, 0.0)
    assert windows.spend(CHANNEL, CAPACITY, 0.0) not in GOES


def test_full_channel_is_full_at_once_until_it_has_drained() -> None:
    windows = Windows(expiry=EXPIRY)
    spend_all(windows)
    windows.answer(CHANNEL, windows.question(CHANNEL), 0, 0.0)
    assert windows.spend(CHANNEL, CAPACITY, 0.0) is Verdict.FULL
    windows.drained(CHANNEL, CAPACITY)
    assert windows.spend(CHANNEL, CAPACITY, 0.0) in GOES


def test_drained_gives_nothing_to_a_sender_that_has_room() -> None:
    """Its messages are still under way: the room that the owner had does not count them."""
    windows = Windows(expiry=EXPIRY)
    for _ in range(100):
        windows.spend(CHANNEL, CAPACITY, 0.0)
        windows.drained(CHANNEL, CAPACITY)
    assert windows.spend(CHANNEL, CAPACITY, 0.0) not in GOES


def test_drained_and_answers_of_unknown_channels_are_nobodys() -> None:
    windows = Windows(expiry=EXPIRY)
    assert windows.drained(CHANNEL, 5) == []
    assert windows.answer(CHANNEL, 1, 5, 0.0) == []
    assert len(windows) == 0


def test_after_a_pause_as_long_as_the_expiry_the_window_is_whole_again() -> None:
    windows = Windows(expiry=EXPIRY)
    spend_all(windows)
    assert windows.spend(CHANNEL, CAPACITY, EXPIRY) not in GOES
    assert windows.spend(CHANNEL, CAPACITY, EXPIRY + 0.1) in GOES


def test_prune_forgets_what_says_nothing_any_more_and_wakes_who_waits() -> None:
    windows = Windows(expiry=EXPIRY)
    spend_all(windows)
    windows.wait(CHANNEL, "waiter")
    assert windows.prune(EXPIRY) == []
    assert len(windows) == 1
    assert windows.prune(EXPIRY + 0.1) == ["waiter"]
    assert len(windows) == 0


def test_clear_wakes_everyone() -> None:
    windows = Windows(expiry=EXPIRY)
    for channel in ("one", "two"):
        windows.spend(channel, CAPACITY, 0.0)
        windows.wait(channel, channel)
    assert windows.clear() == ["one", "two"]
    assert len(windows) == 0
