"""What the layer's options and Django's settings say about the database."""

from typing import Any, NamedTuple

from psycopg.conninfo import conninfo_to_dict, make_conninfo

__all__ = ["PostgresSettings"]

# Where the user says nothing, a server that hangs or a line that is cut without a word is noticed in seconds.
_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}


class PostgresSettings(NamedTuple):
    """`dsn` and `listen_dsn` are libpq's connection strings, and may hold passwords: they are never shown.

    Nor by what shows the variables of a traceback, as Django's error page.
    """

    dsn: str
    listen_dsn: str = ""
    """Where to LISTEN, if not at `dsn`."""
    schema: str = ""
    """Empty: the first one of the role's search_path."""
    table_prefix: str = "trunk_"
    auto_create: bool = True
    auto_trim: bool = True
    polling_interval: float = 0.1
    role: str = ""
    """What to SET ROLE to, as Django's `assume_role`."""

    def __repr__(self) -> str:
        return f"<PostgresSettings: {self.where}>"

    @property
    def where(self) -> str:
        """The database, for people; without a password."""
        return describe(self.dsn)

    def conninfo(self, *, listening: bool, application_name: str) -> str:
        """The connection string to use."""
        chosen: dict[str, Any] = conninfo_to_dict(self.listen_dsn if listening and self.listen_dsn else self.dsn)
        return make_conninfo(**{**_DEFAULTS, "application_name": application_name, **chosen})


def describe(dsn: str) -> str:
    """What a connection string names: host, port, database, service; nothing else."""
    parts = conninfo_to_dict(dsn)
    host = parts.get("host") or parts.get("hostaddr") or parts.get("service") or "the local socket"
    port = f":{parts['port']}" if parts.get("port") else ""
    name = parts.get("dbname")
    return f"PostgreSQL at {host}{port}" + (f", database {name}" if name else "")
