"""The processes of one measurement, and the conductor's hold on them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from trunkbench.layer import Layer, make_layer
from trunkbench.link import Link, Order, Unmeasurable
from trunkbench.peers import Peer, peer_named

# Not fork: a forked child would share imports, sockets and warm caches with its neighbour, real deployments do not.
SPAWN = multiprocessing.get_context("spawn")

# `async def role(layer, link, **params)`, or a plain `def` for a process without an event loop.
Role = Callable[..., Any]


class MeasurementError(Exception):
    """A process of the crew failed, ended or went silent."""


class Member:
    """The conductor's end of the pipe to one process."""

    def __init__(self, *, title: str, process: BaseProcess, connection: Connection[Any, Any], log: Path) -> None:
        self.title = title
        self.process = process
        self.exit_status: int | None = None  # Negative: the signal that ended it. None until stop().
        self._connection = connection
        self._log = log

    def say(self, kind: str, **data: Any) -> None:
        """Give an order."""
        self._connection.send(Order(kind, data))

    def expect(self, kind: str, *, within: float) -> dict[str, Any]:
        """Wait for the answer of this kind and return its data."""
        if not self._connection.poll(within):
            raise MeasurementError(f"{self.title}: no {kind!r} within {within:g} s{self._tail()}")
        try:
            order: Order = self._connection.recv()
        except EOFError:
            raise MeasurementError(f"{self.title}: ended while {kind!r} was expected{self._tail()}") from None
        if order.kind != kind:
            raise MeasurementError(f"{order.data.get('error', order.kind)} ({self.title})")
        return order.data

    def stop(self, *, within: float) -> str | None:
        """End the process and free what it held here; say what was wrong with its ending, if anything."""
        with contextlib.suppress(OSError):  # It may be gone already; its exit status tells.
            self.say("stop")
        self.process.join(within)
        late = self.process.exitcode is None
        if late:
            self.process.kill()
            self.process.join()
        self.exit_status = self.process.exitcode
        self._connection.close()
        self.process.close()
        if late:
            return f"{self.title}: did not end within {within:g} s{self._tail()}"
        return None if self.exit_status == 0 else f"{self.title}: exit status {self.exit_status}{self._tail()}"

    def _tail(self) -> str:
        try:
            text = self._log.read_text(errors="replace").strip()
        except OSError:
            return ""
        return f"\n{text[-1500:]}" if text else ""


class Crew:
    """Starts the processes of one measurement and ends them all, whatever happens."""

    def __init__(self, peer: Peer, config: dict[str, Any], *, log: Path) -> None:
        self._peer = peer
        self._config = config
        self._log = log
        self._members: list[Member] = []

    def start(self, role: Role, **params: Any) -> Member:
        """Run `role` in a new process of its own."""
        here, there = SPAWN.Pipe()
        # `layer` and `link` are the role's own first parameters.
        seat = {"role": role, "peer": self._peer.name, "config": self._config, "params": params, "log": str(self._log)}
        process = SPAWN.Process(target=_serve, args=(there,), kwargs=seat, daemon=True)
        process.start()
        there.close()
        member = Member(title=f"{self._peer.name} {role.__name__}", process=process, connection=here, log=self._log)
        self._members.append(member)
        return member

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After a failure nobody waits for good manners.
        give_up = time.monotonic() + (10.0 if kind is None else 1.0)
        complaints = [member.stop(within=max(0.1, give_up - time.monotonic())) for member in self._members]
        spoken = [complaint for complaint in complaints if complaint]
        if spoken and kind is None:
            raise MeasurementError("; ".join(spoken))


def _serve(
    connection: Connection[Any, Any], *, role: Role, peer: str, config: dict[str, Any], params: dict[str, Any], log: str
) -> None:
    """The whole life of a process of the crew."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the conductor's; the crew ends with its pipe.
    _redirect_stderr(log)
    link, row = Link(connection), peer_named(peer)
    try:
        row.prepare(config)
        if inspect.iscoroutinefunction(role):
            asyncio.run(_run_role(role, link, peer=row, config=config, params=params))
        else:
            layer = _made(row, config)
            role(layer, link, **params)
            asyncio.run(_close(layer, row.close))
    except Unmeasurable as reason:
        link.tell("failed", error=str(reason))
    except BaseException as error:
        first = _first_of(error)
        link.tell("failed", error=f"{type(first).__name__}: {first}\n{traceback.format_exc()[-1500:]}")
        raise


def _first_of(error: BaseException) -> BaseException:
    """What went wrong, and not that something did in a group of tasks."""
    return _first_of(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _made(peer: Peer, config: dict[str, Any]) -> Layer | None:
    return make_layer(peer.backend, config) if peer.backend else None


async def _run_role(role: Role, link: Link, *, peer: Peer, config: dict[str, Any], params: dict[str, Any]) -> None:
    # Made here, not before the loop: channels_rabbitmq must be.
    layer = _made(peer, config)
    try:
        await role(layer, link, **params)
    finally:
        await _close(layer, peer.close)


async def _close(layer: Layer | None, method: str) -> None:
    if layer is not None and method:
        await getattr(layer, method)()


def _redirect_stderr(log: str) -> None:
    """Warnings of the layers go to a file, which is shown when the measurement fails."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 2)
    os.close(descriptor)
