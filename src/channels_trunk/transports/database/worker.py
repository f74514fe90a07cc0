"""The one thread that talks to the database: it does jobs, and looks at the log now and then.

A connection of Django's belongs to a thread, and its calls block: neither may happen on the hub's loop.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from channels_trunk.aside import WITHIN
from channels_trunk.clock import Clock

__all__ = ["GivenUp", "Job", "Worker"]

T = TypeVar("T")

# A fork waits no longer than this for the thread to come out of the database's library. Seconds.
_HOLD_WITHIN = 1.0


class GivenUp(Exception):
    """Whoever asked for the job wants it no more, and nothing was committed."""


class Job(Generic[T]):
    """A call on its way through the thread. Until its commit begins it can be given up without a trace."""

    def __init__(self, call: "Callable[[Job[T]], T]") -> None:
        self.outcome: Future[T] = Future()
        self._call = call
        self._lock = threading.Lock()
        self._given_up = False  # guarded by _lock, as the next
        self._committing = False
        self._relied_on = False

    def run(self) -> None:
        """Do it; in the worker's thread."""
        if not self.outcome.set_running_or_notify_cancel():
            return
        try:
            self.check()
            result = self._call(self)
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever asked
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(result)

    def check(self) -> None:
        """Raise GivenUp if nobody wants it any more."""
        if self.is_given_up:
            raise GivenUp

    def commit_begins(self) -> None:
        """From now on it is done; raises GivenUp if nobody wants it any more."""
        with self._lock:
            if self._given_up:
                raise GivenUp
            self._committing = True

    def commit_failed(self) -> None:
        """Nothing was committed after all."""
        with self._lock:
            self._committing = False

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits for it."""
        with self._lock:
            return self._given_up

    def give_up(self) -> bool:
        """Nobody waits for it any more; whether it leaves no trace. If not, it is taken to be done."""
        with self._lock:
            self._given_up = True
            self._relied_on = self._relied_on or self._committing
            return not self._committing

    @property
    def is_relied_on(self) -> bool:
        """Whether somebody went away in the belief that it is done."""
        with self._lock:
            return self._relied_on


class Worker:
    """Starts at once; a daemon. `look` returns in how many seconds it is to be called again."""

    def __init__(self, name: str, *, look: Callable[[], float], end: Callable[[], None], clock: Clock) -> None:
        self._look = look
        self._end = end
        self._clock = clock.monotonic
        self._changed = threading.Condition()
        self._jobs: deque[Job[Any]] = deque()  # guarded by _changed, as the next two
        self._look_at: float | None = None
        self._stopping = False
        self._looked = False  # of the thread alone: the last thing it did was to look
        self._inside = threading.Lock()  # held while the thread is in the database's library
        self._held = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    # --- any thread

    def submit(self, job: Job[T]) -> Job[T]:
        """Have the thread do a job, after those before it."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()
        return job

    def look_within(self, seconds: float) -> None:
        """Look no later than that."""
        with self._changed:
            wanted = self._clock() + seconds
            if self._look_at is None or wanted < self._look_at:
                self._look_at = wanted
                self._changed.notify()

    def stop(self) -> None:
        """End after the jobs that are waiting; returns at once."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def give_up_all(self) -> None:
        """Nobody wants the jobs that are waiting any more."""
        with self._changed:
            for job in self._jobs:
                job.give_up()

    @property
    def is_alive(self) -> bool:
        """Whether the thread has not come to its end."""
        return self._thread.is_alive()

    def hold(self) -> None:
        """Wait until the thread is out of the database's library, and keep it out until release()."""
        self._held = self._inside.acquire(timeout=_HOLD_WITHIN)

    def release(self) -> None:
        """Let it go on."""
        if self._held:
            self._held = False
            self._inside.release()

    # --- the thread

    def _run(self) -> None:
        WITHIN.set([True])  # Django logs its statements in here, and a handler may send
        try:
            while (task := self._next()) is not None:
                with self._inside:
                    task()
                # While this waits for the next, what it did must not live on in here.
                del task
        finally:
            with self._inside:
                self._end()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while True:
                wait = None if self._look_at is None else self._look_at - self._clock()
                due = wait is not None and wait <= 0 and not self._stopping
                # In turns: under load there is always a job, and a backlog makes the next look due at once.
                if self._jobs and (self._looked or not due):
                    self._looked = False
                    return self._jobs.popleft().run
                if due:
                    # Whoever asks for a look from now on, by a ring say, may mean what this one does not see.
                    self._looked, self._look_at = True, None
                    return self._look_now
                if self._stopping:
                    return None
                self._changed.wait(wait)

    def _look_now(self) -> None:
        self.look_within(self._look())
