"""The PostgreSQL that the pages speak of, and the private one that stands for it in tests."""

import shlex
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from psycopg.conninfo import conninfo_to_dict

# What pages say, always in the same words.
PAGE_HOST = "db.example.org"
PAGE_POOLER = "mysite@pooler.example.org:6432/mysite"
PAGE_NAME = "mysite"


class PageDatabase(NamedTuple):
    """A database, and the pooler in front of it (an address, or empty)."""

    dsn: str
    pooler: str = ""

    @classmethod
    def of(cls, fixture: Callable[[str], Any], *, pooled: bool) -> "PageDatabase":
        """A fresh one, by the fixtures of tests/plugins/servers."""
        dsn = str(fixture("postgres_database"))
        return cls(dsn, str(fixture("pgbouncer")(fixture("postgres")).by_address(dsn)) if pooled else "")

    def translated(self, code: str) -> str:
        """What the page says, with the names of this database."""
        parts = conninfo_to_dict(self.dsn)
        user, name, host = parts["user"], parts["dbname"], parts["host"]
        if self.pooler:
            pooler = conninfo_to_dict(self.pooler)
            code = code.replace(PAGE_POOLER, f"{user}@{pooler['host']}:{pooler['port']}/{name}")
        for said, meant in (
            (f"{PAGE_NAME}@{PAGE_HOST}/{PAGE_NAME}", f"{user}@{host}/{name}"),
            (f'"USER": "{PAGE_NAME}"', f'"USER": "{user}"'),
            (f'"NAME": "{PAGE_NAME}"', f'"NAME": "{name}"'),
            (PAGE_HOST, str(host)),
        ):
            code = code.replace(said, meant)
        return code

    def command(self, line: str) -> str:
        """A command of the page, with the names of this database."""
        parts = conninfo_to_dict(self.dsn)
        words = {PAGE_NAME: str(parts["dbname"]), f"--username={PAGE_NAME}": f"--username={parts['user']}"}
        return " ".join(word if word == ">" else shlex.quote(words.get(word, word)) for word in shlex.split(line))

    @property
    def environment(self) -> Mapping[str, str]:
        """What the pages leave to the environment: passwords and the port."""
        parts = conninfo_to_dict(self.dsn)
        password = str(parts["password"])
        return {
            "PGHOST": str(parts["host"]),
            "PGUSER": str(parts["user"]),
            "PGPORT": str(parts["port"]),
            "PGPASSWORD": password,
            "DATABASE_PASSWORD": password,
        }
