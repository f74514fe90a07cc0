"""Into the node: reads what the transport has for it, and delivers it in order, in any thread but one at a time."""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from channels_trunk.envelope import Envelope
from channels_trunk.exceptions import TransportError
from channels_trunk.router import Effects
from channels_trunk.transports.base import Busy, ReadableTransport, Transport

if TYPE_CHECKING:
    from .lifecycle import Lifecycle

__all__ = ["Reader"]

# How often delivery steps aside for a receiver that was woken and has not come, before it goes on without it. A turn
# of a loop is a few microseconds to a few milliseconds; on the hub's thread a turn is half a millisecond.
_PATIENCE = 20
_STEP_ASIDE = 0.0005
_PAGES_AT_ONCE = 4
# To wake so many receivers has taken so long that more may have come meanwhile. Read before they have their turn, it
# costs each of them one wake for all: seven of eight messages to a group of 1,000 are taken in a third of the time.
_MANY = 64


class Reader:
    """Reads until there is nothing left, never one page per ring: the rest would wait for a ring that never comes."""

    def __init__(self, hub: "Lifecycle", transport: Transport) -> None:
        self._hub = hub
        self._readable = transport if isinstance(transport, ReadableTransport) else None
        # What comes over a network after a loss was noted is still to be read: a confirm may be among it, and a socket
        # rings until it is empty.
        self._reads_when_away = not transport.capabilities.inline
        self._busy = threading.Lock()  # held by whoever reads
        self._again = False  # somebody came while another was reading
        self._backlog: deque[Envelope] = deque()  # received and not delivered; touched with _busy held
        self._inbox: deque[Sequence[Envelope]] = deque()  # what a transport pushed; append and popleft are atomic
        self._more = True  # whether the transport may have another page in this round; touched with _busy held
        self._asides = 0
        self.reads = 0
        """How often the transport was read."""
        self.found = 0
        """How often something was found."""

    @property
    def pending(self) -> bool:
        """Whether something has been received that is not delivered yet."""
        return bool(self._backlog or self._inbox or self._again)

    def push(self, envelopes: Sequence[Envelope]) -> None:
        """Take what a transport received by itself, and deliver it."""
        self._inbox.append(envelopes)
        self.pull()

    def pull(self) -> None:
        """Deliver everything there is to read. If another thread is at it, that thread does this caller's part too."""
        while True:
            self._again = True
            if not self._busy.acquire(blocking=False):
                return
            try:
                self._again = False
                finished = self._read()
                queues = self._readable.queues_now() if finished and self._readable and self._may_read() else ()
            except Busy:
                finished, queues = False, ()
            except TransportError as error:
                self._hub.publish_failed(error)
                finished, queues = True, ()
            finally:
                self._busy.release()
            if queues:
                self._hub.claims.available(queues)
            if not finished:
                self._go_on_later()
                return
            # Whoever failed to get the lock has set this first: no call is lost between the read and the release.
            if not self._again and not self._inbox:
                return

    def _read(self) -> bool:
        """Read and deliver; False if it stepped aside before the end."""
        self._more = True
        # Bounded, because a neighbour may write as fast as this node reads, and receivers want their turn.
        for _ in range(_PAGES_AT_ONCE):
            if not self._backlog and not self._fetch():
                return True
            if self._must_step_aside():
                return False
            self._deliver()
            if self._backlog:
                return False
        return False

    def _must_step_aside(self) -> bool:
        if not self._hub.router.pressed:
            self._asides = 0
            return False
        self._asides += 1
        if self._asides <= _PATIENCE:
            return True
        self._asides = 0
        with self._hub.lock:
            self._hub.router.stop_stepping_aside()
        return False

    def _fetch(self) -> bool:
        """Fill the backlog; False if there is nothing to be had."""
        while self._inbox:
            self._backlog.extend(self._inbox.popleft())
        while not self._backlog and self._more and self._readable is not None and self._may_read():
            self.reads += 1
            page = self._readable.read_now()
            self._more = page.more
            self._backlog.extend(page.envelopes)
            self.found += bool(page.envelopes)
        return bool(self._backlog)

    def _may_read(self) -> bool:
        return self._hub.is_open or self._reads_when_away

    def _deliver(self) -> None:
        effects = Effects()
        clock = self._hub.clock
        try:
            with self._hub.lock:
                self._hub.router.arrive(
                    self._backlog,
                    now=clock.monotonic(),
                    wall=clock.wall(),
                    effects=effects,
                    control=self._hub.control,
                )
        finally:
            self._hub.perform(effects)
        if len(effects.wakes) > _MANY:
            self._more = True

    def _go_on_later(self) -> None:
        here = asyncio._get_running_loop()
        if here is not None and not (self._asides and self._hub.on_io_thread):
            here.call_soon(self.pull)
        else:
            self._hub.on_io(self._pull_after_a_moment)

    def _pull_after_a_moment(self) -> None:
        asyncio.get_running_loop().call_later(_STEP_ASIDE, self.pull)
