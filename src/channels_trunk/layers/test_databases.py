"""Test databases: which one a layer is in, and that it lets go of it before Django copies or drops it.

Django has no signal for this, so the methods of its own that do it are wrapped, when the first layer is imported.
"""

import functools
import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.core.exceptions import SynchronousOnlyOperation
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.creation import TEST_DATABASE_PREFIX, BaseDatabaseCreation
from django.utils.connection import ConnectionDoesNotExist

from channels_trunk.exceptions import ChannelLayerError

from .django_databases import is_memory_name

if TYPE_CHECKING:
    from .base import TrunkChannelLayer

__all__ = [
    "clean_after",
    "database_name",
    "is_test_run",
    "keep_off_the_real_one",
    "refuse_if_dropped",
    "refuse_if_forbidden",
    "watch_test_databases",
]

# They put functions of their own in the place of this method. Others do so, too, for other reasons.
_WHO_FORBIDS = ("django.test.", "pytest_django.")
_layers: "weakref.WeakSet[TrunkChannelLayer]" = weakref.WeakSet()
_cleaners: list[Callable[[str], None]] = []
# Of the test databases that were dropped, and of those in whose places they were: until Django makes them anew.
_dropped: set[str] = set()
_made: dict[str, str] = {}  # by the alias


def watch_test_databases(layer: "TrunkChannelLayer") -> None:
    """Have this layer let go of test databases, for as long as somebody holds it."""
    _layers.add(layer)


def clean_after(cleaner: Callable[[str], None]) -> None:
    """Have this called with the name of each SQLite file that was a test database."""
    _cleaners.append(cleaner)


def refuse_if_dropped(layer: "TrunkChannelLayer") -> None:
    """Raise ChannelLayerError if the layer would open the real database after the tests, or hold up a drop."""
    if _dropped and _name_of(layer) in _dropped:
        raise ChannelLayerError(
            "Django has dropped the test database: the layer is not opened any more, as it would use the real one. "
            "Threads and tasks that a test starts must end with it"
        )


def keep_off_the_real_one(alias: str) -> None:
    """Raise ChannelLayerError if this is a test that may not use the database, and it is not the test database."""
    if not is_test_run():
        refuse_if_forbidden(alias)


def refuse_if_forbidden(alias: str) -> None:
    """Raise ChannelLayerError in a test that may not use the database, by Django's rules or those of pytest-django."""
    if not BaseDatabaseWrapper.ensure_connection.__module__.startswith(_WHO_FORBIDS):
        return
    connection = connections.create_connection(alias)
    connection.connect = lambda: None
    try:
        connection.ensure_connection()
    except SynchronousOnlyOperation:
        return  # Django's own method, which was called as it may be used
    except (AssertionError, RuntimeError) as error:
        raise ChannelLayerError(
            f"the layer is in the database {alias!r}, which this test may not use: {error} Or give such tests a layer "
            f"in memory"
        ) from error


def is_test_run() -> bool:
    """Whether Django has put test databases in the places of the real ones."""
    settings = connections[DEFAULT_DB_ALIAS].settings_dict
    name, test_name = os.fspath(settings["NAME"] or ""), settings["TEST"].get("NAME")
    if test_name:
        return name.startswith(os.path.splitext(os.fspath(test_name))[0])
    return os.path.basename(name).startswith(TEST_DATABASE_PREFIX)


def database_name(alias: str) -> Any:
    """The name of a Django database; in a test run the test database's, never the real one's.

    Where ChannelsLiveServerTestCase starts its server in a new process, only the default database is set to its test
    name there; the test names of others have to be worked out.
    """
    settings = connections[alias].settings_dict
    name = settings["NAME"]
    if name and (made := _made.get(alias)) and os.fspath(name).startswith(f"{TEST_DATABASE_PREFIX}{made}"):
        # That of a process that is forked is set there once more: test_test_mysite (Channels 4.3).
        return name.removeprefix(TEST_DATABASE_PREFIX)
    if not name or alias == DEFAULT_DB_ALIAS or not is_test_run():
        return name
    if mirror := settings["TEST"].get("MIRROR"):
        return database_name(mirror)
    test_name = _test_name(alias, name)
    if connections[alias].vendor == "sqlite":
        is_set = is_memory_name(name) or (
            not is_memory_name(test_name) and os.fspath(name).startswith(os.path.splitext(test_name)[0])
        )
        return name if is_set else test_name
    # Parallel runs add a number to the test name: then Django has set this one, too.
    return name if name.startswith((TEST_DATABASE_PREFIX, test_name)) else test_name


def _test_name(alias: str, name: Any) -> str:
    test_name = connections[alias].settings_dict["TEST"].get("NAME")
    if connections[alias].vendor == "sqlite":
        # Without a name of its own, the test database is in memory.
        return os.fspath(test_name or ":memory:")
    return test_name or f"{TEST_DATABASE_PREFIX}{name}"


# --- what Django does

_create_test_db = BaseDatabaseCreation.create_test_db
_clone_test_db = BaseDatabaseCreation.clone_test_db
_destroy_test_db = BaseDatabaseCreation.destroy_test_db
_setup_worker_connection = BaseDatabaseCreation.setup_worker_connection


@functools.wraps(_create_test_db)
def _create(creation: Any, *args: Any, **kwargs: Any) -> Any:
    # A layer that was used before is in the real database, or in one that an earlier run has left.
    name = _name_now(creation)
    names = {name, _test_name(creation.connection.alias, name)}
    _dropped.difference_update(names)
    _let_go(names)
    made = _made[creation.connection.alias] = _create_test_db(creation, *args, **kwargs)
    return made


@functools.wraps(_clone_test_db)
def _clone(creation: Any, suffix: str, *args: Any, **kwargs: Any) -> Any:
    _let_go({_name_now(creation), _clone_name(creation, suffix)})
    return _clone_test_db(creation, suffix, *args, **kwargs)


@functools.wraps(_destroy_test_db)
def _destroy(
    creation: Any,
    old_database_name: Any = None,
    verbosity: int = 1,
    keepdb: bool = False,  # noqa: FBT001, FBT002 - as Django has it
    suffix: str | None = None,
) -> Any:
    name = _name_now(creation) if suffix is None else _clone_name(creation, suffix)
    names = {name} if old_database_name is None else {name, os.fspath(old_database_name)}
    _dropped.update(names)
    _let_go(names)
    done = _destroy_test_db(creation, old_database_name, verbosity, keepdb, suffix)
    if creation.connection.vendor == "sqlite" and not is_memory_name(name):
        _clean(name)
    return done


@functools.wraps(_setup_worker_connection)
def _setup_worker(creation: Any, *args: Any, **kwargs: Any) -> Any:
    _let_go({_name_now(creation)})
    return _setup_worker_connection(creation, *args, **kwargs)


BaseDatabaseCreation.create_test_db = _create
BaseDatabaseCreation.clone_test_db = _clone
BaseDatabaseCreation.destroy_test_db = _destroy
BaseDatabaseCreation.setup_worker_connection = _setup_worker


def _name_now(creation: Any) -> str:
    return os.fspath(creation.connection.settings_dict["NAME"] or "")


def _clone_name(creation: Any, suffix: str) -> str:
    return os.fspath(creation.get_test_db_clone_settings(suffix)["NAME"] or "")


def _let_go(names: set[str]) -> None:
    for layer in list(_layers):
        if _name_of(layer) in names:
            layer._let_go()


def _name_of(layer: "TrunkChannelLayer") -> str | None:
    try:
        return layer.database_name()
    except ConnectionDoesNotExist:
        return None  # DATABASES has changed


def _clean(name: str) -> None:
    if not os.path.exists(name):
        # Of a process of the run that was killed, or ended without closing its connections.
        for suffix in ("-wal", "-shm"):
            with suppress(OSError):
                os.unlink(name + suffix)
    for cleaner in _cleaners:
        cleaner(name)
