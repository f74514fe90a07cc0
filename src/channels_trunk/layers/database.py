"""The layer on any database that Django speaks."""

import copy
import os
import weakref
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, ClassVar

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, connections

from channels_trunk.exceptions import OptionsError
from channels_trunk.findings import Finding
from channels_trunk.options import CORE_OPTIONS, Option, anything, boolean, seconds, text
from channels_trunk.stats import Survey
from channels_trunk.transports.base import Transport
from channels_trunk.transports.database import DatabaseSettings, DatabaseTransport
from channels_trunk.transports.database.examination import examine, find_pooler
from channels_trunk.transports.database.survey import survey, vacuum
from channels_trunk.transports.memory import MemoryTransport
from channels_trunk.transports.memory import survey as survey_memory

from .base import TrunkChannelLayer
from .django_databases import is_memory_name, require_alias
from .files import LayerFile
from .test_databases import database_name, refuse_if_forbidden

__all__ = ["DatabaseChannelLayer"]

# How long SQLite waits for a lock before the layer looks whether there is something else to do. Seconds.
_SQLITE_LOCK_WAIT = 0.25


class DatabaseChannelLayer(TrunkChannelLayer):
    """A channel layer for any number of processes, on any database that Django speaks, by its ORM alone.

    `database` is the alias; its tables are made by `manage.py migrate`, with "channels_trunk" in INSTALLED_APPS. The
    layers for SQLite, PostgreSQL and RabbitMQ are faster; this one polls. In a test run whose database is in memory,
    the layer is in memory, too.
    """

    options: ClassVar[tuple[Option, ...]] = (
        *CORE_OPTIONS,
        Option("database", DEFAULT_DB_ALIAS, text),
        Option("auto_trim", True, boolean),
        Option("polling_interval", 0.025, seconds()),
        Option("polling_idle_timeout", 1800.0, seconds()),
        Option("pool_size", None, anything, inert="there is no pool: a process has one connection"),
    )

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.database: str = self._values["database"]
        _require_engine(self.database, f"{self._where}['database']")

    def _make_transport(self, values: dict[str, Any]) -> Transport:
        alias = values["database"]
        if is_in_memory(alias):
            # Other processes cannot see such a database, nor can they see this.
            return MemoryTransport(self._name_in_memory())
        _require_app(self._where)
        is_awaited = _AskWeakly(self)

        def settings() -> DatabaseSettings:
            refuse_if_forbidden(alias)
            return find_settings(values, is_awaited)

        return DatabaseTransport(settings)

    def survey(self) -> Survey | None:
        """What the tables hold. Raises TransportUnavailable."""
        if is_in_memory(self.database):
            return survey_memory(self._name_in_memory())
        return survey(self.database, self.prefix)

    def _name_in_memory(self) -> str:
        return f"{connections[self.database].settings_dict['NAME']} {self.prefix}"

    def place(self) -> Hashable | None:
        """The database, by its alias."""
        return "database", self.database

    def database_alias(self) -> str | None:
        """The option `database`."""
        return self.database

    def database_name(self) -> str | None:
        """The alias's."""
        return str(database_name(self.database) or "")

    def needs_migrations(self) -> bool:
        """Its tables are models, unless they are in memory."""
        return not is_in_memory(self.database)

    def file(self) -> LayerFile | None:
        """The database, if it is SQLite."""
        if connections[self.database].vendor != "sqlite" or is_in_memory(self.database):
            return None
        return LayerFile(os.path.abspath(database_name(self.database)))

    def examine(self) -> Iterable[Finding]:
        """Say what will keep the layer from working in its database."""
        if is_in_memory(self.database):
            return
        file = self.file()
        yield from examine(find_settings(self._values, lambda: False), path=None if file is None else file.path)
        if (pooler := self.find_pooler()) is not None:
            yield pooler

    def find_pooler(self) -> Finding | None:
        """Say that there is a pooler in front of PostgreSQL, and the settings do not know of it."""
        if connections[self.database].vendor != "postgresql":
            return None
        return find_pooler(find_settings(self._values, lambda: False))

    def vacuum(self) -> tuple[int, int] | None:
        """Have SQLite write the file anew; see the base class."""
        file = self.file()
        if file is None or not os.path.exists(file.path):
            return None
        return vacuum(file.path)


class _AskWeakly:
    """Whether anybody waits at a layer; it does not keep the layer alive."""

    def __init__(self, layer: DatabaseChannelLayer) -> None:
        self._layer = weakref.ref(layer)

    def __call__(self) -> bool:
        layer = self._layer()
        hub = None if layer is None else layer._made
        if hub is None:
            return False
        with hub.lock:
            return any(box.waiting() for box in hub.router.boxes.values())


def find_settings(values: Mapping[str, Any], is_awaited: Callable[[], bool]) -> DatabaseSettings:
    """What the layer's options and Django's say about the database, now; no I/O."""
    alias = values["database"]
    return DatabaseSettings(
        alias=alias,
        database=_own_entry(alias),
        is_awaited=is_awaited,
        auto_trim=values["auto_trim"],
        polling_interval=values["polling_interval"],
        polling_idle_timeout=values["polling_idle_timeout"],
        is_a_file=connections[alias].vendor == "sqlite",
    )


def _own_entry(alias: str) -> dict[str, Any]:
    """The entry of DATABASES as the layer's own connection needs it."""
    connection = connections[alias]
    entry = {**connection.settings_dict, "NAME": database_name(alias), "AUTOCOMMIT": True}
    options = entry["OPTIONS"] = copy.copy(connection.settings_dict["OPTIONS"])
    if connection.vendor == "sqlite":
        # A deferred transaction that begins to write may find that it has read what is stale, and fail.
        if str(options.get("transaction_mode") or "").upper() != "EXCLUSIVE":
            options["transaction_mode"] = "IMMEDIATE"
        options["timeout"] = min(float(options.get("timeout", 5.0)), _SQLITE_LOCK_WAIT)
    elif connection.vendor == "postgresql":
        from django.db.backends.postgresql.psycopg_any import IsolationLevel  # needs the driver

        # There is one connection, which is used all the time; and what other transactions commit has to be seen,
        # whatever the server's own default is.
        options.pop("pool", None)
        options["isolation_level"] = IsolationLevel.READ_COMMITTED
    elif connection.vendor == "mysql":
        options["isolation_level"] = "read committed"
    # Zero is to close the connection after each request, of which there are none here.
    entry["CONN_MAX_AGE"] = entry["CONN_MAX_AGE"] or None
    return entry


def is_in_memory(alias: str) -> bool:
    """Whether the database is a SQLite database in memory, which is its process's alone."""
    return connections[alias].vendor == "sqlite" and is_memory_name(database_name(alias))


def _require_engine(alias: str, where: str) -> None:
    require_alias(alias, where)
    if connections[alias].vendor == "unknown":
        raise OptionsError(f"{where}: the database {alias!r} has no ENGINE")


def _require_app(where: str) -> None:
    if not apps.is_installed("channels_trunk"):
        raise OptionsError(f"{where}: add 'channels_trunk' to INSTALLED_APPS, which has the layer's tables")
