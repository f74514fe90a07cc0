"""The life of a hub: when its thread and its transport come and go."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from channels_trunk.aside import sends
from channels_trunk.clock import WallClock
from channels_trunk.envelope import Envelope
from channels_trunk.exceptions import ChannelLayerError, TransportError, TransportUnavailable
from channels_trunk.health import State
from channels_trunk.router import Effects, Router, Windows
from channels_trunk.transports.base import NodeContext, Transport

from . import living
from .condition import Condition
from .driver import Driver
from .io_thread import IOThread
from .outbox import Outgoing
from .quiet_log import QuietLog
from .requests import Requests
from .supervisor import Supervisor
from .waiters import ThreadWaiter, Waiter, another, settle

if TYPE_CHECKING:
    from .claims import Claims
    from .control import ControlDesk
    from .doorwatch import Doorwatch
    from .hub import HubCounters, HubOptions
    from .joining import Joining
    from .publisher import Publisher
    from .reader import Reader

__all__ = ["Lifecycle"]

W = TypeVar("W", bound=Waiter)

_JOIN_TIMEOUT = 5.0
_HOLD_TIMEOUT = 1.0


class Lifecycle(Condition):
    """The hub's thread, and what it does for callers."""

    control: Callable[[Envelope, Effects], None]
    claims: "Claims"
    counters: "HubCounters"
    desk: "ControlDesk"
    joining: "Joining"
    lock: threading.Lock
    options: "HubOptions"
    publisher: "Publisher"
    reader: "Reader"
    router: Router
    wall_clock: WallClock
    windows: Windows

    def __init__(self, transport: Transport, context: NodeContext) -> None:
        super().__init__(context.clock.monotonic)
        self.transport = transport
        self.context = context
        self.clock = context.clock
        self.log = QuietLog(context.clock.monotonic)
        self.requests = Requests()  # guarded by lock
        self.driver = Driver(self, transport)
        self.doorwatch: Doorwatch | None = None
        self._io: IOThread | None = None  # guarded by _life, as the next two
        self._supervisor: Supervisor | None = None
        self.asides: deque[Callable[[], object]] = deque()  # sends that are put aside; appended and popped atomically
        self._ended: list[Waiter] = []  # who waits for the thread to end
        self._held = False  # between hold() and release()
        self._refusal: ChannelLayerError | None = None  # touched on the hub's loop alone, as all below
        self._expired_told = 0  # how many of the messages that expired the log was told of

    # --- start and stop, any thread

    def start(self) -> None:
        """Start the thread, and have it open the transport; returns at once."""
        with self._life:
            if not self.is_idle:
                return
            try:
                self._io = IOThread(f"channels-trunk-{self.context.node}")
            except RuntimeError as error:
                raise ChannelLayerError(
                    f"the layer's thread cannot be started: {error}. At the end of the process (in atexit, in "
                    f"destructors) only a layer that is open already can be used"
                ) from error
            except OSError as error:
                raise ChannelLayerError(f"the layer's event loop cannot be made: {error}") from error
            living.began(self)
            self.is_idle = False
            self.set_state(State.OPENING, "")
            self._io.call(self._begin)

    def _begin(self) -> None:
        self._supervisor = Supervisor(self, self.transport)
        self.doorwatch = self._supervisor.inline_doorwatch
        self.spawn(self._supervisor.run())
        sends.work()  # what was put aside while there was no thread here to see to it

    def stop(self, waiter: W | None = None) -> W | None:
        """Send what is pending, close the transport and end the thread; return what to wait for, or None if idle."""
        with self._life:
            if self.is_idle or self._io is None:
                return None
            if waiter is not None:
                self._ended.append(waiter)
            io = self._io
        io.call(self._stop_here)
        return waiter

    async def close(self) -> None:
        """Stop, wait for that, and drop messages and memberships; receivers go on waiting."""
        waiter = asyncio.get_running_loop().create_future()
        if self.stop(waiter) is not None:
            await waiter
        self._drop_everything()

    def _drop_everything(self) -> None:
        with self.lock:
            # What was taken out of the engine for a receiver here is nowhere else.
            self.router.flush(spare=self.claims.taken())
            waiters = self.windows.clear()
        settle(waiters)

    def _stop_here(self) -> None:
        if self._supervisor is not None:
            self._supervisor.stop()

    def close_blocking(self, timeout: float = _JOIN_TIMEOUT) -> None:
        """Stop, and wait until the thread has ended (unless this is it)."""
        io = self._io
        waiter = ThreadWaiter()
        if self.stop(waiter) is None or io is None or io.is_here:
            return
        waiter.wait(timeout)
        io.join(timeout)
        self._drop_everything()

    def retire(self, error: ChannelLayerError) -> None:
        """Close for good, and raise this in whoever waits to receive."""
        self.close_blocking()
        self._tell_receivers(error)

    def hold(self) -> None:
        """Before a fork: nobody is in the transport while the process is copied."""
        self._held = self.publisher.exclusive.acquire(timeout=_HOLD_TIMEOUT)
        self.transport.hold()

    def release(self) -> None:
        """After a fork, in the parent."""
        self.transport.release()
        if self._held:
            self._held = False
            self.publisher.exclusive.release()

    def abandon(self) -> None:
        """In the child after a fork: keep off everything that belongs to the parent."""
        living.bury(self)
        if self.doorwatch is not None:
            self.doorwatch.abandon()
        self.transport.abandon()

    # --- sending, and what follows from deliveries, any thread

    def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Have the transport take these, in this order."""
        if self.is_idle:
            self.start()
        elif self.doorwatch is not None:
            self.doorwatch.look_after(outgoing[0].waiter)
        self.publisher.add(outgoing)
        if self.is_idle:
            # The thread ended in between. Either it has seen these, or this sees that it has ended.
            self._start_again()

    def _start_again(self) -> None:
        """Start for what waits to be sent; if that is impossible, whoever waits is told."""
        try:
            self.start()
        except ChannelLayerError as error:
            self.publisher.fail_all(lambda error=error: another(error))  # type: ignore[misc]

    def wake(self, receivers: Sequence[Waiter]) -> None:
        """Wake receivers; where one is in a loop that was closed under it, wake the next in its place."""
        while not settle(receivers):
            with self.lock:
                receivers = self.router.next_in_line()
            if not receivers:
                return

    def perform(self, effects: Effects) -> None:
        """Carry out what the router decided; without the hub's lock."""
        if effects.wakes:
            self.wake(effects.wakes)
        # What other nodes are told never opens the engine: envelopes may come in until the moment it is closed.
        if effects.controls and not self.is_idle:
            self.publisher.add([self.desk.packed(node, control) for node, control in effects.controls])
        if effects.overflowed is not None:
            self.log.warning("full", "channel %s is full: a message to a group was dropped", effects.overflowed)
        for error in effects.skipped:
            self.context.sink.skipped(error)

    def aside(self, call: Callable[[], object]) -> None:
        """Make this call in a thread of its own, soon; returns at once, in any context."""
        self.asides.append(call)
        sends.put(partial(self._next_aside, call))
        # If neither is there, the call of ours that was interrupted sees to it when it ends.
        if (here := asyncio._get_running_loop()) is not None:
            here.call_soon_threadsafe(sends.work)
        else:
            self.on_io(sends.work)

    def _next_aside(self, call: Callable[[], object]) -> None:
        try:
            call()
        finally:
            self.asides.popleft()

    def wait_for_asides(self) -> None:
        """Return when what was put aside before now is done, so that it is not overtaken; at most send_timeout."""
        if self.doorwatch is not None:
            self.doorwatch.look_after(ThreadWaiter())
        sends.drained(self.options.send_timeout)

    # --- the hub's thread

    @property
    def on_io_thread(self) -> bool:
        """Whether the caller is the hub's thread."""
        io = self._io
        return io is not None and io.is_here

    def on_io(self, function: Callable[..., object], *args: Any) -> None:
        """Call `function` on the hub's loop, soon; not at all if the thread has ended."""
        io = self._io
        if io is not None:
            io.call(function, *args)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None] | None":
        """Start a task on the hub's loop, from that loop alone; None if that loop's time is over."""
        io = self._io
        if io is None or not io.is_here:
            # A callback of a thread that has been closed, and perhaps replaced.
            coroutine.close()
            return None
        task = io.spawn(coroutine)
        task.add_done_callback(self._note_failure)
        return task

    def _note_failure(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.warning("task", "work in the background failed: %s: %s", type(error).__name__, error)

    def run(self, coroutine: Coroutine[Any, Any, None], waiter: W) -> W:
        """Run `coroutine` on the hub's loop and settle `waiter` when it is done."""
        # Under the lock, so that the thread cannot be told to end in between: then nobody would settle the waiter.
        with self._life:
            if self.is_idle:
                try:
                    self.start()
                except BaseException:
                    coroutine.close()
                    raise
            elif self.doorwatch is not None:
                self.doorwatch.look_after(waiter)
            if self._io is not None:
                self._io.call(self._spawn_for, self._io, coroutine, waiter)
        return waiter

    def _spawn_for(self, io: IOThread, coroutine: Coroutine[Any, Any, None], waiter: Waiter) -> None:
        # By a callback and not in the task: one that is cancelled before its first step runs nothing of itself.
        io.spawn(coroutine).add_done_callback(lambda task: _pass_on(task, waiter, io.ended_by))

    # --- what the supervisor reports; the hub's loop

    def opened(self, *, again: bool) -> None:
        """Let everything go that has waited for this."""
        if again:
            self.counters.reconnects += 1
        self.has_joined = True
        self.set_state(State.OK, "")
        self.driver.let_go()

    def away(self, error: Exception) -> None:
        """The engine was not reached; there will be more attempts."""
        self.set_state(State.AWAY, str(error))
        self.log.warning("away", "the engine is away: %s", error)

    def refused(self, error: ChannelLayerError) -> None:
        """A person must mend something; whoever waits is told."""
        self.set_state(State.FAILED, str(error))
        self._refusal = error
        self.driver.let_go(error)
        self.publisher.fail_all(lambda: another(error))

    def ended(self) -> None:
        """The supervisor has come to its end: free the thread, so that the next call begins anew."""
        refusal, self._refusal = self._refusal, None
        error = refusal or TransportUnavailable("the layer was closed meanwhile; what was asked of it is not done")
        self.publisher.fail_all(lambda: another(error))
        self.driver.let_go(error)
        self.driver.cut()
        with self._life:
            io, self._io = self._io, None
            self.is_idle = True
            self.has_joined = False
            self.doorwatch = self._supervisor = None
            if self._health.state is not State.FAILED:
                self.set_state(State.CLOSED, "")
            ended, self._ended = self._ended, []
            # In here, as joins that find no thread any more begin a new one. What follows would be of that one, too: it
            # would not be closed at the end of the process, and its pump would have lost its turn.
            self.joining.end(error)
            living.ended(self)
            if self.publisher.drop_unasked():
                # Somebody sent at the very end; see publish().
                self._start_again()
        if refusal is not None:
            self._tell_receivers(refusal)
        if io is not None:
            io.ended_by = refusal
            io.stop()
        settle(ended)

    def _tell_receivers(self, error: ChannelLayerError) -> None:
        # After is_idle was set: a receiver that is not seen here parks itself afterwards, and then starts the hub.
        with self.lock:
            waiting = [waiter for box in self.router.boxes.values() for waiter in box.all_waiters()]
        settle(waiting, lambda: another(error))

    def sweep(self) -> None:
        """Forget what is over: expired messages, ended memberships, mailboxes and windows nobody uses."""
        now = self.context.clock.monotonic()
        with self.lock:
            self.router.sweep(now)
            waiters = self.windows.prune(now)
            full = [box for box in self.router.boxes.values() if box.said_full]
        settle(waiters)
        if self.reader.pending:
            # Left behind by a loop that stepped aside, and ended before its next turn.
            self.reader.pull()
        self._tell_expired()
        for box in full:
            self.desk.tell_if_drained(box)
        self.claims.sweep()
        self.publisher.nudge()
        if self.driver.needs_interest:
            # Groups whose members have gone; a failure is the supervisor's to notice.
            self.spawn(self.driver.be_heard())

    def _tell_expired(self) -> None:
        # In here and not where they are dropped, which is on the callers' hot paths.
        counters = self.router.counters
        expired = counters.dropped_expired - self._expired_told
        if expired:
            self._expired_told += expired
            text = "a message for %s expired: nobody took it within %g s"
            self.log.warning("expired", text, counters.last_expired, self.options.expiry, times=expired)

    # --- what others ask for

    def why_unavailable(self) -> str:
        """What to tell a sender whose time is over."""
        detail = self.health().detail or "the engine is busy"
        return f"the message was not taken within send_timeout={self.options.send_timeout:g} s: {detail}"

    def lose_here(self) -> None:
        """On the hub's loop: have the supervisor open the transport again."""
        if self._supervisor is not None:
            self._supervisor.lose()

    def maintain_here(self) -> None:
        """On the hub's loop: have the supervisor look after the transport before its time."""
        if self._supervisor is not None:
            self._supervisor.maintain_soon()

    def publish_failed(self, error: TransportError) -> None:
        """The transport failed at something; whoever asked for it is told elsewhere."""
        self.log.warning("failed", "the engine failed: %s", error)


def _pass_on(task: "asyncio.Task[None]", waiter: Waiter, ended_by: BaseException | None) -> None:
    """Settle a waiter with the outcome of a task."""
    error: BaseException | None
    if task.cancelled():
        error = another(ended_by or TransportUnavailable("the layer was closed meanwhile"))
    else:
        error = task.exception()
    settle([waiter], None if error is None else lambda: error)
