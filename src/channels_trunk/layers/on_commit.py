"""Messages that wait for the commit of a Django transaction, and then go together.

Django keeps a list of callbacks for each transaction. It drops those of a savepoint that is rolled back, all of them
when the transaction is, and calls the others one by one after the commit. So that this holds for messages, each is a
callback of its own. But the first that is called sends those behind it as well, so that a transaction with a thousand
messages makes one batch and not a thousand.

Which of those behind it have survived, no callback is told. Django's list alone holds the messages, and here they are
kept by weak references: those that are still there have survived.
"""

import asyncio
import itertools
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

from channels_trunk.aside import Within, is_within, logger
from channels_trunk.hub import Hub, MustWait, Refused
from channels_trunk.hub.outbox import Outgoing
from channels_trunk.hub.waiters import ThreadWaiter
from channels_trunk.router import ANSWER_WITHIN

if TYPE_CHECKING:
    from .base import TrunkChannelLayer

__all__ = ["OnCommit", "Parcel"]

_DUMMY_ENGINE = "django.db.backends.dummy"


class Parcel(NamedTuple):
    """A message that is checked and packed."""

    target: str
    body: bytes
    to_group: bool


class OnCommit:
    """The messages of one layer that wait for commits."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        # By connection, and within it by number, in the order of the calls. Django lets one thread use a connection.
        self._waiting: WeakKeyDictionary[Any, WeakValueDictionary[int, _Message]] = WeakKeyDictionary()

    def add(self, layer: "TrunkChannelLayer", parcel: Parcel, using: str | None) -> None:
        """Send `parcel` when the transaction of the database `using` commits; if there is none, now."""
        connection = _connection(using)
        if asyncio._get_running_loop() is not None and not connection.in_atomic_block:
            # The transaction that the caller means is in another thread: this would be sent before its commit.
            raise RuntimeError(
                "layer.sync.send_on_commit() and group_send_on_commit() follow a transaction of this thread, and a "
                "thread that runs an event loop has none: call them in the function that has it, the one given to "
                "sync_to_async(), or await layer.send()"
            )
        if layer._made is None:
            # A layer that cannot be used says so here, where the transaction can still be rolled back.
            layer._make_hub()
        waiting = self._waiting.get(connection)
        if waiting is None:
            waiting = self._waiting.setdefault(connection, WeakValueDictionary())
        message = _Message(layer, parcel, next(self._numbers), waiting)
        connection.on_commit(message.committed, robust=True)
        if message.parcel is not None:
            waiting[message.number] = message


class _Message:
    """One message that waits; nobody but Django's list of callbacks may hold it."""

    __slots__ = ("__weakref__", "_layer", "_waiting", "number", "parcel")

    def __init__(
        self, layer: "TrunkChannelLayer", parcel: Parcel, number: int, waiting: "WeakValueDictionary[int, _Message]"
    ) -> None:
        self._layer = layer
        self.parcel: Parcel | None = parcel  # None: it is sent
        self.number = number
        self._waiting = waiting

    def committed(self) -> None:
        """Send this message and all behind it, unless one before it has done so already."""
        parcels = self._take()
        if parcels:
            _send(self._layer, parcels)

    def _take(self) -> list[Parcel]:
        if self.parcel is None:
            return []
        # Not those before it that are still there: captureOnCommitCallbacks() calls what came in its block, no more.
        behind = [message for message in list(self._waiting.values()) if message.number > self.number]
        parcels: list[Parcel] = []
        for message in (self, *behind):
            if message.parcel is not None:
                parcels.append(message.parcel)
                message.parcel = None
        return parcels


def _send(layer: "TrunkChannelLayer", parcels: Iterable[Parcel]) -> None:
    """Send these together, and wait until they are stored or delivered; what cannot be sent is counted and logged."""
    if is_within():
        layer._hub.aside(partial(_send_aside, layer, parcels))
        return
    if layer._hub.asides:
        layer._hub.wait_for_asides()
    with Within():
        _send_here(layer, parcels)


def _send_aside(layer: "TrunkChannelLayer", parcels: Iterable[Parcel]) -> None:
    try:
        with Within():
            _send_here(layer, parcels)
    except Exception as error:  # noqa: BLE001 - whoever committed has gone on
        logger.warning("messages of a transaction were not sent: %s: %s", type(error).__name__, error)


def _send_here(layer: "TrunkChannelLayer", parcels: Iterable[Parcel]) -> None:
    hub, resilience = layer._hub, layer._resilience
    bundle = _Bundle(hub)
    for parcel in parcels:
        if resilience is None or not resilience.strikes_here(hub):
            bundle.add(parcel)
    bundle.publish()
    bundle.wait()


class _Bundle:
    """Envelopes that go to the transport in one batch, as far as it takes that many."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._outgoing: list[Outgoing] = []
        self._sent: list[tuple[str, ThreadWaiter]] = []

    def add(self, parcel: Parcel) -> None:
        """Put a message in; those for channels and members of this process are delivered at once."""
        try:
            waiter = self._address(parcel)
        except Refused:
            self._refused(parcel.target)
        else:
            if waiter is not None:
                self._sent.append((parcel.target, waiter))

    def _address(self, parcel: Parcel) -> ThreadWaiter | None:
        if parcel.to_group:
            return self._hub.address_group(parcel.target, parcel.body, ThreadWaiter, into=self._outgoing)
        while True:
            try:
                return self._hub.address(parcel.target, parcel.body, ThreadWaiter, into=self._outgoing)
            except MustWait as ahead:
                # What is in here already is what the channel's owner has to be told of before it can answer.
                self.publish()
                ahead.waiter.wait(ANSWER_WITHIN)

    def publish(self) -> None:
        """Hand over what has been put in."""
        outgoing, self._outgoing = self._outgoing, []
        if outgoing:
            self._hub.publish(outgoing)

    def wait(self) -> None:
        """Return when each message has been taken or refused, or its time is over."""
        failed, last = 0, None
        for target, waiter in self._sent:
            try:
                waiter.wait()
            except Refused:
                self._refused(target)
            except Exception as error:  # noqa: BLE001 - whatever it is, the transaction is committed
                # The hub has counted it.
                failed, last = failed + 1, error
        if failed:
            self._hub.log.warning(
                "commit", "a message of a transaction that is committed was not sent: %s", last, times=failed
            )

    def _refused(self, channel: str) -> None:
        self._hub.router.counters.dropped_overflow += 1
        self._hub.log.warning("full", "channel %s is full: a message of a transaction was dropped", channel)


def _connection(using: str | None) -> Any:
    """The caller's connection to a Django database; raises ImproperlyConfigured where there are none."""
    from django.core.exceptions import ImproperlyConfigured
    from django.db import DEFAULT_DB_ALIAS, connections

    alias = using or DEFAULT_DB_ALIAS
    try:
        connection = connections[alias]
    except ImproperlyConfigured as error:
        raise ImproperlyConfigured(_no_database(alias)) from error
    if connection.settings_dict["ENGINE"] == _DUMMY_ENGINE:
        raise ImproperlyConfigured(_no_database(alias))
    return connection


def _no_database(alias: str) -> str:
    return (
        f"layer.sync.send_on_commit() and group_send_on_commit() follow a transaction of the database {alias!r}, and "
        f"DATABASES in the settings has none of that name; without a transaction use layer.sync.send()"
    )
