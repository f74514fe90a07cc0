"""Rules about calls from strange contexts: log handlers, signal handlers and destructors, in the middle of the work."""

import gc
import itertools
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from channels_trunk.testing.conformance.rules import blocking_rule, rule
from channels_trunk.testing.layer import Layer, Message
from channels_trunk.testing.rig import Rig
from channels_trunk.testing.waiting import eventually_blocking

PLENTY = 100_000
SENDS = 200
INTERRUPTIONS = 100
HELLO = {"type": "hello"}


class ContextRules:
    """Code of the project that runs in the layer's own thread, or interrupts a call of the layer."""

    @rule("sync_api", "groups", "capacity", "statistics", peers=True)
    async def test_log_handler_may_send(self, rig: Rig) -> None:
        """A handler of all log records sends them to a group, by both blocking ways; the layer's own are among them."""
        here, there = rig.here(capacity=1), await rig.peer()
        reader = await rig.peer(capacity=PLENTY)
        full, logs = rig.name("full"), rig.name("logs")
        await here.join(full)
        (channel,) = await reader.join(logs)
        handler = _SendingHandler(here.layer, logs)
        logging.getLogger().addHandler(handler)
        try:
            for _ in range(3):
                await there.group_send(full, HELLO)
            heard = [await reader.receive(channel) for _ in range(2)]
        finally:
            logging.getLogger().removeHandler(handler)
        assert {message["by"] for message in heard} == {"sync", "async_to_sync"}
        assert all("full" in message["text"] for message in heard)
        # The layer goes on.
        await here.group_send(logs, HELLO)
        while await reader.receive(channel) != HELLO:
            pass

    @blocking_rule("sync_api", "groups")
    def test_signal_handler_may_send(self, rig: Rig) -> None:
        """A signal interrupts a thread that sends, and its handler sends: all that was sent arrives, in order."""
        here, there = rig.layer(capacity=PLENTY), rig.layer(capacity=PLENTY)
        group = rig.name("group")
        channel = there.sync.new_channel()
        there.sync.group_add(group, channel)
        numbers = iter(range(INTERRUPTIONS))

        def handle(*_: object) -> None:
            if (number := next(numbers, None)) is not None:
                here.sync.group_send(group, _numbered("handler", number))

        sent = 0
        with _interrupted_by(handle) as handled:
            while len(handled) < INTERRUPTIONS:
                here.sync.group_send(group, _numbered("main", sent))
                sent += 1
        _assert_all_come(rig, there, channel, {"handler": INTERRUPTIONS, "main": sent})

    @blocking_rule("sync_api", "groups")
    def test_destructor_may_send(self, rig: Rig) -> None:
        """The collector runs in the middle of a call, and what it destroys sends: all that was sent arrives."""
        here, there = rig.layer(capacity=PLENTY), rig.layer(capacity=PLENTY)
        group = rig.name("group")
        channel = there.sync.new_channel()
        there.sync.group_add(group, channel)
        destroyed = 0

        def destroy() -> None:
            nonlocal destroyed
            here.sync.group_send(group, _numbered("destructor", destroyed))
            destroyed += 1

        with _collected_in_calls(destroy):
            for number in range(SENDS):
                here.sync.group_send(group, _numbered("main", number))
        assert destroyed
        _assert_all_come(rig, there, channel, {"destructor": destroyed, "main": SENDS})

    @blocking_rule("sync_api", "groups")
    def test_signal_handler_that_would_wait_is_refused(self, rig: Rig) -> None:
        """What cannot be served in the middle of a call raises at once, and harms nothing."""
        layer = rig.layer()
        channel = layer.sync.new_channel()
        calls: list[Callable[[], Any]] = [
            lambda: layer.sync.receive(channel, timeout=rig.seconds(20)),
            layer.sync.new_channel,
            lambda: layer.sync.group_add("group", channel),
            lambda: layer.sync.group_discard("group", channel),
            layer.sync.flush,
            layer.sync.close,
            lambda: async_to_sync(layer.group_send)("group", HELLO),
        ]
        refused: list[str] = []

        def handle(*_: object) -> None:
            for call in calls:
                with pytest.raises(RuntimeError, match="was called in the middle of") as caught:
                    call()
                refused.append(str(caught.value))
            layer.sync.send(channel, HELLO)  # what the thread waits for

        before = signal.signal(signal.SIGUSR1, handle)
        main = threading.get_ident()
        timer = threading.Timer(0.05, lambda: signal.pthread_kill(main, signal.SIGUSR1))
        timer.start()
        try:
            assert layer.sync.receive(channel, timeout=rig.seconds(20)) == HELLO
        finally:
            timer.join()
            signal.signal(signal.SIGUSR1, before)
        assert len(refused) == len(calls)


class _SendingHandler(logging.Handler):
    """Live logs in a browser, as people write it."""

    def __init__(self, layer: Layer, group: str) -> None:
        super().__init__(logging.WARNING)
        self._layer = layer
        self._group = group

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        self._layer.sync.group_send(self._group, {"type": "log", "by": "sync", "text": text})
        message = {"type": "log", "by": "async_to_sync", "text": text}
        async_to_sync(self._layer.group_send)(self._group, message)


class _Parting:
    """Garbage that only the collector finds; it makes a call when it is destroyed."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._itself = self

    def __del__(self) -> None:
        self._call()


@contextmanager
def _collected_in_calls(destroy: Callable[[], None]) -> Iterator[None]:
    """Have the collector find garbage that calls `destroy`, in the middle of whatever this thread does."""
    calls = itertools.count(1)

    def profile(_frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and not next(calls) % 11:
            _Parting(destroy)
            gc.collect(0)

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


def _numbered(sender: str, number: int) -> Message:
    return {"type": "numbered", "sender": sender, "number": number}


def _assert_all_come(rig: Rig, layer: Layer, channel: str, sent: dict[str, int]) -> None:
    """Receive so many of each sender, each sender's in order."""
    got: dict[str, list[int]] = {sender: [] for sender in sent}
    for _ in range(sum(sent.values())):
        message = layer.sync.receive(channel, timeout=rig.seconds(20))
        got[message["sender"]].append(message["number"])
    assert got == {sender: list(range(count)) for sender, count in sent.items()}


@contextmanager
def _interrupted_by(handle: Callable[..., None]) -> Iterator[list[int]]:
    """Interrupt this thread with a signal, again as soon as it has been handled; yields a list that grows with each."""
    handled: list[int] = []
    main = threading.get_ident()
    is_over = threading.Event()

    def handler(*_: object) -> None:
        handle()
        handled.append(1)

    def interrupt() -> None:
        while not is_over.is_set():
            before = len(handled)
            signal.pthread_kill(main, signal.SIGUSR1)
            eventually_blocking(lambda: len(handled) > before or is_over.is_set(), within=60)  # noqa: B023

    before = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield handled
    finally:
        is_over.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)
