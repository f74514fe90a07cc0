"""Guarantee 4: a fork while things are in flight leaves the parent untouched and gives the child a layer of its own."""

import gc
import os
import threading
from collections.abc import Callable

import pytest

from channels_trunk.hub import living
from channels_trunk.layers import forking
from channels_trunk.testing import eventually_blocking
from channels_trunk.testing.transports import LoopbackServer

from .conftest import FaultyLayer, MakeLayer

HELLO = {"type": "hello"}
MARK = {"type": "mark"}

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def in_child(body: Callable[[], None]) -> int:
    """Run `body` in a fork of this process; its exit status, 0 if nothing was raised."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_fork_while_a_publish_is_in_flight(make_sync_layer: MakeLayer) -> None:
    here, there = make_sync_layer(), make_sync_layer()
    channel = there.sync.new_channel()
    node = here.stats().node
    here.sync.new_channel()
    hold = here.faults.stall("publish")
    sender = threading.Thread(target=here.sync.send, args=(channel, HELLO))
    sender.start()
    assert hold.entered.wait(20)

    def child() -> None:
        assert here.stats().node != node
        use(here)
        # A server of this process knows nothing of the parent's nodes.
        assert here.faults.inner is not None
        assert node not in here._hub.transport.inner.server.nodes()  # type: ignore[attr-defined]
        here.sync.close()

    assert in_child(child) == 0
    hold.release()
    sender.join(20)
    assert there.sync.receive(channel, timeout=20) == HELLO
    assert here.stats().node == node
    use(here)


def test_fork_while_opening_and_while_away(make_sync_layer: MakeLayer, server: LoopbackServer) -> None:
    here = make_sync_layer()
    hold = here.faults.stall("open")
    opener = threading.Thread(target=here.sync.new_channel)
    opener.start()
    assert hold.entered.wait(20)
    assert in_child(lambda: use(here)) == 0
    hold.release()
    opener.join(20)
    server.stop()
    eventually_blocking(lambda: here.health().state == "away")
    assert in_child(lambda: use(here)) == 0
    server.start()
    use(here)


def test_fork_of_a_fork(make_sync_layer: MakeLayer) -> None:
    here = make_sync_layer()
    use(here)

    def child() -> None:
        use(here)
        assert in_child(lambda: use(here)) == 0
        use(here)

    assert in_child(child) == 0
    use(here)


def test_fork_of_an_unused_layer(make_sync_layer: MakeLayer) -> None:
    here = make_sync_layer()
    assert in_child(lambda: use(here)) == 0
    use(here)


def test_fork_with_the_hubs_lock_held(make_sync_layer: MakeLayer) -> None:
    """Another thread may be anywhere at that moment, and it does not exist in the child."""
    here = make_sync_layer()
    use(here)
    hub = here._hub
    with hub.lock, hub._life, here.server._lock:
        assert in_child(lambda: use(here)) == 0
    use(here)


def test_forks_in_several_threads_at_once(make_sync_layer: MakeLayer) -> None:
    """What is held for the one is neither given free nor forgotten by the other."""
    here = make_sync_layer()
    use(here)
    exclusive = here._hub.publisher.exclusive
    threads = [threading.Thread(target=in_child, args=(lambda: None,), daemon=True) for _ in range(2)]
    # One is in the middle of its fork when the other begins.
    forking._hold_all_before_fork()
    try:
        assert exclusive.locked()
        for thread in threads:
            thread.start()
    finally:
        forking._release_all_in_parent()
    for thread in threads:
        thread.join(20)
    assert not exclusive.locked()
    use(here)


def test_fork_while_a_layer_that_was_dropped_is_being_closed(
    prefix: str, server: LoopbackServer, layer_class: type[FaultyLayer]
) -> None:
    """Nobody in the child has it any more, and yet it is the parent's: nothing of it must be closed or waited for."""
    layer = layer_class(prefix=prefix)
    layer.sync.new_channel()
    hub = layer._hub
    hold = layer.faults.stall("close")
    del layer
    gc.collect()
    assert hold.entered.wait(20)

    def child() -> None:
        assert living.all_living() == []
        assert hub in living._graveyard  # with those that other tests may have left to the collector

    assert in_child(child) == 0
    hold.release()
    eventually_blocking(lambda: hub.is_idle)


def use(layer: FaultyLayer) -> None:
    sync = layer.sync
    channel = sync.new_channel()
    sync.group_add("used", channel)
    sync.group_send("used", HELLO)
    sync.send(channel, MARK)
    assert [sync.receive(channel, timeout=20) for _ in range(2)] == [HELLO, MARK]
    sync.group_discard("used", channel)
