"""The layer on a SQLite file."""

import os
import re
from collections.abc import Hashable, Iterable, Mapping
from contextlib import suppress
from typing import Any, ClassVar

from django.db import DEFAULT_DB_ALIAS, connections

from channels_trunk.exceptions import OptionsError
from channels_trunk.findings import Finding
from channels_trunk.options import CORE_OPTIONS, Option, anything, boolean, optional, seconds, text
from channels_trunk.stats import Survey
from channels_trunk.transports.base import Transport
from channels_trunk.transports.memory import MemoryTransport
from channels_trunk.transports.memory import survey as survey_memory
from channels_trunk.transports.sqlite import SQLiteSettings, SQLiteTransport
from channels_trunk.transports.sqlite.connection import MINIMUM_SQLITE
from channels_trunk.transports.sqlite.doorbell import remove_sockets
from channels_trunk.transports.sqlite.examination import examine, survey, vacuum

from .base import TrunkChannelLayer
from .django_databases import has_tables, is_memory_name, require_alias
from .files import LayerFile
from .test_databases import clean_after, database_name, keep_off_the_real_one

__all__ = ["SQLiteChannelLayer"]


def _path(value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError(f"must be the path of a file, not {value!r}")
    path = os.fsdecode(value)
    if "\0" in path:
        raise ValueError(f"must be the path of a file, not {value!r}")
    if is_memory_name(path):
        raise ValueError(f"must be the path of a file, not {value!r}; inside one process use MemoryChannelLayer")
    return os.path.abspath(path)


def _file_mode(value: Any) -> int:
    digits = value if isinstance(value, str) else f"{value:o}" if type(value) is int else ""
    if not re.fullmatch(r"(0o)?0*6[046][046]", digits):
        raise ValueError(
            f"must be the mode of a file that its owner may read and write, such as 0o600 or 0o660, not {value!r}"
        )
    return int(digits, 8)


class SQLiteChannelLayer(TrunkChannelLayer):
    """A channel layer for all processes of one machine, on a SQLite file; nothing else to install or to run.

    `path` names the file; or `database` a Django database that is SQLite, whose file is then used; with neither, the
    layer has a file of its own beside the default database's. The tables are made when they are needed. In a test run
    whose database is in memory, the layer is in memory, too.
    """

    options: ClassVar[tuple[Option, ...]] = (
        *CORE_OPTIONS,
        Option("database", None, optional(text)),
        Option("path", None, optional(_path)),
        Option("file_mode", "0600", _file_mode),
        Option("auto_trim", True, boolean),
        Option("polling_interval", 0.1, seconds()),
        Option("pool_size", None, anything, inert="there is no pool: a process has three connections"),
        Option("polling_idle_timeout", None, anything, inert="processes wake each other; polling is a safety net"),
    )

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        database, path = self._values["database"], self._values["path"]
        if database is not None and path is not None:
            raise OptionsError(f"{self._where}: give 'database' or 'path', not both")
        if database is not None and "file_mode" in config:
            raise OptionsError(
                f"{self._where}['file_mode']: with 'database' the file is the application's; set its mode yourself"
            )
        if path is None:
            _require_sqlite(database, self._where)

    def _make_transport(self, values: dict[str, Any]) -> Transport:
        if self.is_in_memory():
            # Other processes cannot see such a database, nor can they see this.
            return MemoryTransport(self._name_in_memory())

        def settings() -> SQLiteSettings:
            if values["path"] is None:
                keep_off_the_real_one(values["database"] or DEFAULT_DB_ALIAS)
            return find_settings(values)

        return SQLiteTransport(settings)

    def find_settings(self) -> SQLiteSettings:
        """What the options and Django's settings say about the file, now; no I/O."""
        return find_settings(self._values)

    def is_in_memory(self) -> bool:
        """Whether the layer is in memory, because the database is."""
        return self._values["path"] is None and is_memory_name(
            database_name(self._values["database"] or DEFAULT_DB_ALIAS)
        )

    def place(self) -> Hashable | None:
        """The file."""
        return None if self.is_in_memory() else os.path.realpath(self.find_settings().path)

    def survey(self) -> Survey | None:
        """What the file holds; None if there is no file. Raises TransportUnavailable if it cannot be read."""
        if self.is_in_memory():
            return survey_memory(self._name_in_memory())
        return survey(self.find_settings(), self.prefix)

    def _name_in_memory(self) -> str:
        return f"{database_name(self._values['database'] or DEFAULT_DB_ALIAS)} {self.prefix}"

    def database_alias(self) -> str | None:
        """The option `database`."""
        alias: str | None = self._values["database"]
        return alias

    def database_name(self) -> str | None:
        """The alias's, or what `path` says; else the default database's."""
        if self._values["path"] is not None:
            return str(self._values["path"])
        return str(database_name(self._values["database"] or DEFAULT_DB_ALIAS))

    def file(self) -> LayerFile | None:
        """The file, and whether the application writes to it as well."""
        if self.is_in_memory():
            return None
        alias = self._values["database"]
        return LayerFile(
            self.find_settings().path,
            minimum_sqlite=MINIMUM_SQLITE,
            shares_tables=alias is not None and has_tables(alias),
        )

    def examine(self) -> Iterable[Finding]:
        """Say what will keep the layer from working on its file."""
        return () if self.is_in_memory() else examine(self.find_settings())

    def vacuum(self) -> tuple[int, int] | None:
        """Write the file anew; see the base class."""
        settings = None if self.is_in_memory() else self.find_settings()
        return vacuum(settings) if settings is not None and os.path.exists(settings.path) else None


def find_settings(values: Mapping[str, Any]) -> SQLiteSettings:
    """What the layer's options and Django's say about the file, now."""
    common = {"auto_trim": values["auto_trim"], "polling_interval": values["polling_interval"]}
    own = {"own_file": True, "file_mode": _file_mode(values["file_mode"]), **common}
    if values["path"] is not None:
        return SQLiteSettings(values["path"], **own)
    alias = values["database"]
    if alias is None:
        path = own_file_beside(database_name(DEFAULT_DB_ALIAS))
        return SQLiteSettings(path, **own)
    options = connections[alias].settings_dict["OPTIONS"]
    mode = str(options.get("transaction_mode") or "IMMEDIATE").upper()
    return SQLiteSettings(
        os.path.abspath(database_name(alias)),
        own_file=False,
        init_command=options.get("init_command") or "",
        timeout=float(options.get("timeout", 5.0)),
        # A deferred transaction that begins to write may find that it has read what is stale, and fail.
        transaction_mode="EXCLUSIVE" if mode == "EXCLUSIVE" else "IMMEDIATE",
        **common,
    )


def own_file_beside(database: str) -> str:
    """db.sqlite3 has db.channels.sqlite3 beside it."""
    stem, extension = os.path.splitext(os.path.abspath(database))
    return f"{stem}.channels{extension or '.sqlite3'}"


def _remove_left_behind(name: str) -> None:
    """After a test run: what its processes that were killed have left of this database, and of the file beside it."""
    remove_sockets(os.path.abspath(name))
    own_file = own_file_beside(name)
    remove_sockets(own_file)
    for path in (own_file, f"{own_file}-wal", f"{own_file}-shm"):
        with suppress(OSError):
            os.unlink(path)


clean_after(_remove_left_behind)


def _require_sqlite(alias: str | None, where: str) -> None:
    if alias is not None:
        require_alias(alias, f"{where}['database']")
    connection = connections[alias or DEFAULT_DB_ALIAS]
    if connection.vendor == "sqlite":
        name = os.fspath(connection.settings_dict["NAME"] or "")
        if "://" in name and not name.startswith("file:"):
            # As libSQL has it. It may hold a token, and is not shown.
            raise OptionsError(
                f"{where}: the NAME of the database {alias or DEFAULT_DB_ALIAS!r} is the URL of a server and no file; "
                f"give 'path', the file to use, or take another layer"
            )
        if not name:
            raise OptionsError(
                f"{where}: the database {alias or DEFAULT_DB_ALIAS!r} has no NAME; give 'path', the file to use"
            )
        return
    engine = connection.settings_dict["ENGINE"]
    if alias is None:
        raise OptionsError(f"{where}: the default database is not SQLite but {engine}; give 'path', the file to use")
    raise OptionsError(f"{where}['database']: {alias!r} is not SQLite but {engine}; name another, or give 'path'")
