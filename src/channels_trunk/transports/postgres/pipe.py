"""libpq's end of one connection, for the loop that it belongs to and for threads that drive it in the loop's place."""

import asyncio
import select
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

import psycopg
from psycopg import pq

from channels_trunk.exceptions import TransportUnavailable

from .watch import Door, Watch

__all__ = ["Notice", "Outcome", "Pipe", "Receive"]

# How often a thread that waits for an answer looks whether the connection was closed under it. Seconds.
_LOOK_UP_EVERY = 0.1

Outcome = list[Any] | TransportUnavailable
Receive = Callable[[Outcome], None]


class Notice(NamedTuple):
    """A notification: its channel, and what it says."""

    channel: str
    payload: str


class Answer(NamedTuple):
    """Results that are whole, and who waits for them."""

    receive: Receive
    results: list[Any]

    def pass_on(self) -> None:
        """Hand them over."""
        self.receive(self.results)


class Pipe:
    """Carries one request at a time, and hands its results to whoever asked.

    It belongs to the loop that made it; start() and attend() may be called in any thread, and at a door any thread
    reads. `on_notices` is told of notifications in their order, in whatever thread, and may do no more than note them;
    `on_came` afterwards, on the loop, if it was the loop that has read them.
    """

    def __init__(
        self,
        connection: "psycopg.AsyncConnection[Any]",
        *,
        on_notices: Callable[[list[Notice]], None],
        on_came: Callable[[], None],
        on_lost: Callable[[Exception], None],
    ) -> None:
        # Kept, because it closes the connection when it is collected.
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._on_notices = on_notices
        self._on_came = on_came
        self._on_lost = on_lost
        self._libpq = threading.Lock()  # held by whoever is in libpq; guards all below
        self.pgconn: Any = connection.pgconn
        self.pgconn.nonblocking = 1
        self._held = False  # whether the loop has the turn
        self._receive: Receive | None = None  # who gets the answer that is waited for
        self._freed: asyncio.Future[None] | None = None  # for the loop, which waits for the end of what was started
        self._started_by = 0  # the thread whose request it is, if one was started
        self._attended = False  # whether a thread has taken the socket over
        self._rests_at_door = False  # where the socket is watched while nothing is under way
        self._results: list[Any] = []
        self.error: TransportUnavailable | None = None
        """Why the connection is gone; None while it stands."""
        self._socket: int = self.pgconn.socket
        self._watch = Watch(self._loop, self._socket, self._on_ready)

    # --- the loop

    def hold(self) -> "asyncio.Future[None] | None":
        """No other thread starts anything from now on; or what to wait for before this is tried again."""
        with self._libpq:
            if self._receive is None:
                self._held = True
                # The answers are for the loop.
                self._watch.move(to_door=False)
                return None
            self._freed = self._loop.create_future()
            return self._freed

    def let_go(self) -> None:
        """Other threads may start something again."""
        with self._libpq:
            self._held = False
            if self._rests_at_door and self.error is None:
                self._watch.move(to_door=True)

    def read_at(self, door: Door | None, *, at_rest: bool) -> None:
        """Have the socket read by who watches this door, if anybody: what that thread starts, and `at_rest` the rest.

        Not what the loop asks for while hold() holds, nor what other threads start: they must not wait for a loop that
        is perhaps busy.
        """
        with self._libpq:
            if self.error is not None or not self._watch.any_thread:
                return
            self._watch.use_door(door, self.read)
            self._rests_at_door = at_rest and door is not None
            if self._rests_at_door and not self._held:
                self._watch.move(to_door=True)

    def ask(self, send: Callable[[], None], receive: Receive) -> None:
        """Send a request, while hold() holds; raises TransportUnavailable if the connection is gone already."""
        with self._libpq:
            if self.error is not None:
                raise TransportUnavailable(*self.error.args)
            self._receive = receive
            failure = self._send(send)
        if failure is not None:
            self.lose(failure)

    def _on_ready(self) -> None:
        with self._libpq:
            if self._attended or self.error is not None:
                return
            found = self._advance()
            # Notifications that came with the answer are older than what its receiver does next.
            has_notices = self._pass_on_notices()
        if has_notices:
            self._on_came()
        if isinstance(found, Exception):
            self.lose(found)
        elif found is not None:
            found.pass_on()

    def lose(self, error: Exception) -> None:
        """The connection is of no use any more, for this reason."""
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        lost = TransportUnavailable(f"the connection to PostgreSQL is gone: {first_line}")
        if self._end(lost, error):
            self._on_lost(lost)

    def close(self) -> None:
        """Close the connection; what is under way fails."""
        self._end(TransportUnavailable("the connection to PostgreSQL was closed"), None)

    def _end(self, error: TransportUnavailable, cause: Exception | None) -> bool:
        with self._libpq:
            if self.error is not None:
                return False
            self.error = error
            error.__cause__ = cause
            receive = self._free()
            self._watch.close()
            # At once, and not when the collector comes: whoever takes over makes another.
            self.pgconn.finish()
        if receive is not None:
            receive(TransportUnavailable(*error.args))
        return True

    def close_in_child(self) -> None:
        """After a fork: close the descriptors. psycopg and libpq never speak on what another process has connected."""
        if self.error is None:
            self._watch.close_in_child()

    # --- any thread

    @property
    def is_free(self) -> bool:
        """Whether start() is likely to do something."""
        return not self._held and self._receive is None and self.error is None and self._watch.any_thread

    def start(self, send: Callable[[], None], receive: Receive) -> bool:
        """Send a request if none is under way, and do not wait; False if nothing was done.

        `receive` is called once, in any thread, with the results or with the loss of the connection.
        """
        with self._libpq:
            if not self.is_free:
                return False
            self._receive = receive
            self._started_by = threading.get_ident()
            self._watch.move(to_door=self._watch.reads_at_door)
            failure = self._send(send)
        if failure is not None:
            self._lose_soon(failure)
        return True

    def read(self) -> None:
        """Take what has come; for who watches the door, one thread at a time."""
        with self._libpq:
            if self._held or self._attended or self.error is not None:
                return
            found = self._advance()
            self._pass_on_notices()
            if isinstance(found, Exception):
                self._watch.pause()  # or it would ring until the loop has come
        if isinstance(found, Exception):
            self._lose_soon(found)
        elif found is not None:
            found.pass_on()

    def attend(self, seconds: float) -> None:
        """Wait in this thread for the answer to what it has started, for at most so many seconds."""
        with self._libpq:
            receive = self._receive
            if receive is None or self._held or self._attended or self.error is not None:
                return
            if self._started_by != threading.get_ident():
                return  # the loop took this thread's answer, and another has started the next
            self._attended = True
            self._watch.pause()
        found: Answer | Exception | None = None
        try:
            found = self._awaited(receive, monotonic() + seconds)
        finally:
            with self._libpq:
                self._attended = False
                if self.error is None:
                    self._watch.resume()
        if isinstance(found, Exception):
            self._lose_soon(found)
        elif found is not None:
            found.pass_on()

    def _awaited(self, receive: Receive, until: float) -> "Answer | Exception | None":
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while (left := until - monotonic()) > 0:
            # A moment at a time: the loop may close the connection meanwhile, and that ends no poll.
            poll.modify(self._socket, select.POLLIN | (select.POLLOUT if self._watch.is_writing else 0))
            poll.poll(min(left, _LOOK_UP_EVERY) * 1000)
            with self._libpq:
                if self._receive is not receive:
                    return None
                if (found := self._advance()) is not None:
                    return found
        return None

    def _lose_soon(self, error: Exception) -> None:
        try:
            self._loop.call_soon_threadsafe(self.lose, error)
        except RuntimeError:
            return  # the loop has ended, and has closed the connection

    # --- with _libpq held

    def _pass_on_notices(self) -> bool:
        # Here, so that two threads cannot pass them on in another order than that in which they came.
        notices = []
        if self.pgconn.status == pq.ConnStatus.OK:
            while (found := self.pgconn.notifies()) is not None:
                notices.append(Notice(found.relname.decode(), found.extra.decode("utf-8", "replace")))
        if notices:
            self._on_notices(notices)
        return bool(notices)

    def _send(self, send: Callable[[], None]) -> Exception | None:
        try:
            send()
            self._write_rest()
        except (psycopg.Error, OSError) as error:
            return _without_frames(error)
        except BaseException:
            # A value that cannot be encoded: nothing was sent, and nobody is to wait for an answer.
            self._free()
            raise
        return None

    def _write_rest(self) -> None:
        """Write what fits into the socket's buffer; the rest goes when the server has taken some."""
        is_rest = bool(self.pgconn.flush())
        if is_rest == self._watch.is_writing:
            return
        if self._attended:
            self._watch.is_writing = is_rest  # until resume()
        else:
            self._watch.writing(is_rest)

    def _advance(self) -> "Answer | Exception | None":
        """Take what has come; return an answer that is whole, or why the connection is gone."""
        try:
            # While this side only sends, the server may wait for what it has said to be taken.
            self.pgconn.consume_input()
            if self._watch.is_writing:
                self._write_rest()
            if self._receive is not None and not self._all_results():
                return None
        except (psycopg.Error, OSError) as error:
            return _without_frames(error)
        results, self._results = self._results, []
        if self.pgconn.status == pq.ConnStatus.BAD:
            return OSError(_last_words(results) or "the server closed the connection")
        receive = self._free()
        return None if receive is None else Answer(receive, results)

    def _all_results(self) -> bool:
        while not self.pgconn.is_busy():
            result = self.pgconn.get_result()
            if result is not None and result.status == pq.ExecStatus.PIPELINE_SYNC:
                self.pgconn.exit_pipeline_mode()
            elif result is not None:
                self._results.append(result)
                continue
            elif self.pgconn.pipeline_status and self.pgconn.status == pq.ConnStatus.OK:
                continue  # the end of one statement's results, and not of all
            return True
        return False

    def _free(self) -> Receive | None:
        """No statement is under way any more; return who waits for its answer."""
        receive, self._receive = self._receive, None
        freed, self._freed = self._freed, None
        if freed is not None:
            self._loop.call_soon_threadsafe(_wake, freed)
        return receive


def _wake(freed: "asyncio.Future[None]") -> None:
    if not freed.done():
        freed.set_result(None)


def _without_frames(error: Exception) -> Exception:
    # It is kept for as long as the connection's end is of interest, and its frames would keep what they hold.
    return error.with_traceback(None)


def _last_words(results: list[Any]) -> str:
    """What a server said that ended the session."""
    if not results:
        return ""
    said: bytes = results[-1].error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or results[-1].error_message or b""
    return said.decode("utf-8", "replace")
