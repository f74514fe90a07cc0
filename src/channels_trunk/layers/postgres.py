"""The layer on PostgreSQL."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections

from channels_trunk.exceptions import OptionsError, TransportUnavailable
from channels_trunk.findings import Finding
from channels_trunk.options import CORE_OPTIONS, Option, anything, boolean, optional, seconds, text
from channels_trunk.stats import Survey
from channels_trunk.transports.base import Transport

from .base import TrunkChannelLayer
from .django_databases import require_alias
from .test_databases import database_name, keep_off_the_real_one

try:
    import psycopg

    from channels_trunk.transports.postgres import PostgresSettings, PostgresTransport
    from channels_trunk.transports.postgres.ddl import find_names_now, owner_script, removal_script
    from channels_trunk.transports.postgres.examination import examine, find_pooler, survey
    from channels_trunk.transports.postgres.names import is_plain_name
except ImportError as error:  # pragma: no cover - where psycopg is missing, there are no tests of this
    raise ImportError("PostgresChannelLayer needs psycopg 3: pip install 'channels-trunk[postgres]'") from error

__all__ = ["PostgresChannelLayer"]

# Keys of an entry of DATABASES that say where the database is, and those that mean nothing here.
_DJANGO_KEYS = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")
_DJANGO_INERT = (
    *("ATOMIC_REQUESTS", "AUTOCOMMIT", "CONN_MAX_AGE", "CONN_HEALTH_CHECKS", "DISABLE_SERVER_SIDE_CURSORS"),
    *("TEST", "TIME_ZONE"),
)
_NO_POOL = "there is no pool: a process has three connections"
# What Django and psycopg take out of OPTIONS for themselves; and who else may bring more, for a pool of its own.
_NOT_LIBPQ = (
    *(
        "cursor_factory",
        "context",
        "prepare_threshold",
        "pool",
        "isolation_level",
        "assume_role",
        "server_side_binding",
    ),
    *("autocommit", "row_factory"),
)
_OWN_ENGINES = ("", "django.db.backends.postgresql", "django.contrib.gis.db.backends.postgis")

# As in channels_postgres: who comes from there changes BACKEND and nothing else. A process takes its memberships with
# it. Only a normal channel that was put into a group, and is never taken out of it, leaves a row behind.
_GROUP_EXPIRY = Option("group_expiry", 0.0, seconds(zero_means="never"))


def _dsn(value: Any) -> str:
    """A connection string; it is never shown, as it may hold a password."""
    if not isinstance(value, str) or not value:
        raise ValueError("must be a connection string or URL of libpq, as in postgresql://user@host/database")
    try:
        psycopg.conninfo.conninfo_to_dict(value)
    except psycopg.Error:
        raise ValueError("is no connection string or URL that libpq understands") from None
    return value


def _plain_name(value: Any) -> str:
    name = text(value)
    if not is_plain_name(name):
        raise ValueError(f"must be at most 41 ASCII letters, digits and underscores, not {value!r}")
    return name


def _secret(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")  # and is not shown
    return value


def _port(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not (str(value).isdigit() or value == ""):
        raise ValueError(f"must be the number of a port, not {value!r}")
    return str(value)


def _engine(value: Any) -> str:
    if not isinstance(value, str) or not ("postg" in value or "psycopg" in value):
        raise ValueError(f"must be an engine for PostgreSQL, such as 'django.db.backends.postgresql', not {value!r}")
    return value


def _options(value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise ValueError("must be a dict, as in DATABASES")
    return dict(value or {})


class PostgresChannelLayer(TrunkChannelLayer):
    """A channel layer for any number of processes on any number of hosts, on a PostgreSQL database.

    Where it is: `database` names a Django database, or the keys of an entry of DATABASES say it (`NAME` and so on), or
    `dsn` does as libpq knows it; else it is the default database. The tables are made when they are needed.
    """

    options: ClassVar[tuple[Option, ...]] = (
        *(_GROUP_EXPIRY if option.name == "group_expiry" else option for option in CORE_OPTIONS),
        Option("database", None, optional(text)),
        Option("dsn", None, optional(_dsn)),
        Option("listen_dsn", None, optional(_dsn)),
        Option("schema", None, optional(_plain_name)),
        Option("table_prefix", "trunk_", _plain_name),
        Option("auto_create", True, boolean),
        Option("auto_trim", True, boolean),
        Option("polling_interval", 0.1, seconds()),
        Option("ENGINE", None, optional(_engine)),
        Option("NAME", None, optional(text)),
        Option("USER", None, optional(_secret)),
        Option("PASSWORD", None, optional(_secret)),
        Option("HOST", None, optional(_secret)),
        Option("PORT", None, optional(_port)),
        Option("OPTIONS", None, optional(_options)),
        Option("PSYCOPG_OPTIONS", None, anything, inert=_NO_POOL),
        *(Option(name, None, anything, inert="it is about Django's own connections") for name in _DJANGO_INERT),
    )

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        given = [name for name in ("database", "dsn") if self._values[name] is not None]
        given += [name for name in _DJANGO_KEYS if self._values[name] is not None and name != "ENGINE"][:1]
        if len(given) > 1:
            raise OptionsError(f"{self._where}: give one of {' and '.join(map(repr, given))}, not several")
        if not given:
            _require_postgres(DEFAULT_DB_ALIAS, self._where)
        elif given[0] == "database":
            _require_postgres(self._values["database"], f"{self._where}['database']")
        elif given[0] != "dsn":
            _check_options(self._values["OPTIONS"] or {}, self._values["ENGINE"] or "", self._where)
            _joined(_params_of_keys(self._values, self._where), self._where)

    def _make_transport(self, values: dict[str, Any]) -> Transport:
        # Not a method: a transport that held the layer would keep it from being dropped.
        where, alias = self._where, self.database_alias()

        def settings() -> PostgresSettings:
            if alias is not None:
                keep_off_the_real_one(alias)
            return find_settings(values, where)

        return PostgresTransport(settings)

    def find_postgres(self) -> PostgresSettings:
        """What the options and Django's settings say about the database, now; no I/O."""
        return find_settings(self._values, self._where)

    def place(self) -> Hashable | None:
        """The server, the database and the tables."""
        try:
            settings = self.find_postgres()
        except (OptionsError, TransportUnavailable):
            return None  # whoever needs to know is told when the layer is used
        return settings.where, settings.schema, settings.table_prefix

    def database_alias(self) -> str | None:
        """The option `database`, or the default; None where other options say where the server is."""
        elsewhere = self._values["dsn"] is not None or _has_keys(self._values)
        return None if elsewhere else self._values["database"] or DEFAULT_DB_ALIAS

    def database_name(self) -> str | None:
        """By the alias, the DSN or NAME."""
        if (alias := self.database_alias()) is not None:
            return str(database_name(alias) or "")
        if self._values["dsn"] is not None:
            return str(psycopg.conninfo.conninfo_to_dict(self._values["dsn"]).get("dbname") or "")
        return self._values["NAME"] or ""

    def survey(self) -> Survey | None:
        """What the tables hold; None if they are not there. Raises TransportUnavailable."""
        return survey(self.find_postgres(), self.prefix)

    def examine(self) -> Iterable[Finding]:
        """Say what will keep the layer from working in its database."""
        return examine(self.find_postgres())

    def find_pooler(self) -> Finding | None:
        """Say that there is a pooler in front of the server through which nobody can listen."""
        return find_pooler(self.find_postgres())

    def schema_script(self, *, drop: bool = False) -> str:
        """The SQL that makes the layer's tables, or removes them; asks the server for the schema if none is given."""
        names = find_names_now(self.find_postgres())
        return removal_script(names) if drop else owner_script(names)


def find_settings(values: Mapping[str, Any], where: str) -> PostgresSettings:
    """What the layer's options and Django's say about the database, now."""
    role = ""
    if values["dsn"] is not None:
        dsn = values["dsn"]
    else:
        params = _params_of_keys(values, where) if _has_keys(values) else _params_of_alias(values["database"], where)
        role = str(params.pop("assume_role", None) or "")
        dsn = _joined(params, where)
    return PostgresSettings(
        dsn,
        listen_dsn=values["listen_dsn"] or "",
        schema=values["schema"] or "",
        table_prefix=values["table_prefix"],
        auto_create=values["auto_create"],
        auto_trim=values["auto_trim"],
        polling_interval=values["polling_interval"],
        role=role,
    )


def _has_keys(values: Mapping[str, Any]) -> bool:
    return any(values[name] is not None for name in _DJANGO_KEYS if name != "ENGINE")


def _params_of_keys(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    from django.db.backends.postgresql.base import DatabaseWrapper

    settings = {name: values[name] or "" for name in _DJANGO_KEYS}
    # What Django itself adds to DATABASES, and asks for where USE_TZ is true.
    settings |= {"OPTIONS": dict(values["OPTIONS"] or {}), "TIME_ZONE": None}
    try:
        return _params(DatabaseWrapper(settings))
    except ImproperlyConfigured:
        raise OptionsError(f"{where}: give 'NAME', or a 'service' in 'OPTIONS'") from None


def _joined(params: Mapping[str, Any], where: str) -> str:
    # An engine that wraps Django's may bring what concerns its pool alone; of Django's own all was looked at before.
    takes = _parameters()
    known = {name: value for name, value in params.items() if name in takes and value is not None}
    try:
        return psycopg.conninfo.make_conninfo(**known)
    except psycopg.Error:
        raise OptionsError(
            f"{where}: libpq does not understand what 'OPTIONS' holds: {', '.join(sorted(known))}"
        ) from None


def _parameters() -> frozenset[str]:
    """Of libpq, of the version that is there."""
    return frozenset(entry.keyword.decode() for entry in psycopg.pq.Conninfo.get_defaults())


def _check_options(options: Mapping[str, Any], engine: str, where: str) -> None:
    """Raise OptionsError for what neither libpq knows nor Django, if the engine is Django's own."""
    unknown = sorted(str(name) for name in options if name not in _NOT_LIBPQ and name not in _parameters())
    if unknown and engine in _OWN_ENGINES:
        names = ", ".join(map(repr, unknown))
        raise OptionsError(f"{where}: 'OPTIONS' holds what is no parameter of libpq's, nor Django's: {names}")


def _params_of_alias(alias: str | None, where: str) -> dict[str, Any]:
    alias = alias or DEFAULT_DB_ALIAS
    connection = connections[alias]
    try:
        params = _params(connection)
    except ImproperlyConfigured as error:
        raise OptionsError(f"{where}: the database {alias!r} cannot be used: {error}") from error
    except Exception as error:
        # An engine of somebody's own, which asks for a password that holds for minutes. What it says may hold a secret.
        raise TransportUnavailable(
            f"the parameters of the database {alias!r} are not to be had: {type(error).__name__}"
        ) from error
    if (name := database_name(alias)) != connection.settings_dict["NAME"]:
        params["dbname"] = name
    return params


def _params(connection: Any) -> dict[str, Any]:
    """libpq's parameters as Django works them out, and the role to assume."""
    params: dict[str, Any] = dict(connection.get_connection_params())
    params["assume_role"] = connection.settings_dict["OPTIONS"].get("assume_role")
    return params


def _require_postgres(alias: str, where: str) -> None:
    require_alias(alias, where)
    connection = connections[alias]
    if connection.vendor != "postgresql":
        engine = connection.settings_dict["ENGINE"]
        raise OptionsError(
            f"{where}: the database {alias!r} is not PostgreSQL but {engine}; name another, or give 'dsn'"
        )
    # The engine is not asked for its parameters: it may go and fetch a password.
    settings = connection.settings_dict
    if settings["NAME"] == "" and not settings["OPTIONS"].get("service"):
        raise OptionsError(f"{where}: the database {alias!r} has no NAME, nor a 'service' in its OPTIONS")
    _check_options(settings["OPTIONS"], settings["ENGINE"], f"{where}: the database {alias!r}")
