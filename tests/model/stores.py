"""What operators do to an engine while it is used: they empty it, and put copies in place of what it holds."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import aiormq
import psycopg
from psycopg.errors import DeadlockDetected

from channels_trunk.testing.model import Loss
from tests.plugins.servers import MariaDbServer, RabbitServer
from tests.plugins.servers.rabbit_server import USER

Run = Callable[[Sequence[str]], object]
Tables = Mapping[str, Mapping[str, bool] | None]

JOBS = {"mail": False, "told": False, "members": False}
MEMBERS = {"mail": False, "told": False, "jobs": False}
MAIL = {"jobs": False, "members": False}
LATE = None
"""What takes effect within seconds, and nobody can tell when: such a table is not emptied by itself."""
NOTHING = {"mail": False, "told": False, "jobs": False, "members": False}


def ways_to_lose(run: Run, tables: Tables, *, empty: str = "DELETE FROM") -> dict[str, Loss]:
    """Each table is emptied by itself, and all at once, or one after the other."""

    def emptied(*names: str) -> Callable[[], object]:
        return lambda: run([f"{empty} {name}" for name in names])

    def each() -> None:
        for table in tables:
            emptied(table)()

    ways = {f"{name} is emptied": Loss(emptied(name), **lost) for name, lost in tables.items() if lost is not None}
    return ways | {"all is emptied": Loss(emptied(*tables)), "one table after the other is emptied": Loss(each)}


def copy_aside(run: Run, tables: Sequence[str], *, like: str, empty: str = "DELETE FROM") -> Callable[[], object]:
    """Copy the tables; return what puts the copies back."""
    run([f"CREATE TABLE IF NOT EXISTS aside_{name} {like.format(name)}" for name in tables])
    run([f"DELETE FROM aside_{name}" for name in tables] + [f"INSERT INTO aside_{n} SELECT * FROM {n}" for n in tables])
    back = [f"INSERT INTO {name} SELECT * FROM aside_{name}" for name in tables]
    return lambda: run([*(f"{empty} {name}" for name in tables), *back])


def back_up(path: Path) -> Callable[[], object]:
    """Copy a file of SQLite's; return what puts it back, as `.restore` of the shell does."""
    aside = path.with_name("aside.sqlite3")

    def copy(source: Path, target: Path) -> None:
        with (
            contextlib.closing(sqlite3.connect(source, timeout=30)) as old,
            contextlib.closing(sqlite3.connect(target, timeout=30)) as new,
        ):
            old.backup(new)

    copy(path, aside)
    return lambda: copy(aside, path)


def on_sqlite(path: Path) -> Run:
    def run(statements: Sequence[str]) -> None:
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                connection.execute(statement)

    return run


def on_postgres(dsn: str) -> Run:
    def run(statements: Sequence[str]) -> None:
        while True:
            with contextlib.suppress(DeadlockDetected), psycopg.connect(dsn) as connection:
                for statement in statements:
                    connection.execute(statement)
                return

    return run


def on_mariadb(server: MariaDbServer, url: str) -> Run:
    def run(statements: Sequence[str]) -> None:
        server.execute("BEGIN", *statements, "COMMIT", url=url)

    return run


# For what operators do to a broker by its own means: AMQP cannot list queues.
_QUEUES = """
V = <<"{vhost}">>,
Kinds = [{kinds}],
Queues = [Q || Q <- rabbit_amqqueue:list(V), Kind <- Kinds,
    string:prefix(element(4, amqqueue:get_name(Q)), <<"asgi.", Kind/binary, ".">>) =/= nomatch
    orelse element(4, amqqueue:get_name(Q)) =:= <<"asgi.", Kind/binary>>],
[{what} || Q <- Queues], ok.
"""
_VHOST = """
V = <<"{vhost}">>, U = <<"tests">>,
rabbit_vhost:delete(V, U),
rabbit_vhost:add(V, U),
rabbit_auth_backend_internal:set_permissions(<<"{user}">>, V, <<".*">>, <<".*">>, <<".*">>, U), ok.
"""
_PURGED = "rabbit_amqqueue:purge(Q)"
_DELETED = 'rabbit_amqqueue:delete(Q, false, false, <<"tests">>)'


def ways_to_lose_on_rabbitmq(broker: RabbitServer, url: str) -> dict[str, Loss]:
    """What is in its queues, the queues themselves, the exchange, and all that there is."""
    vhost = url.rpartition("/")[2]

    def told(script: str, **values: str) -> Callable[[], object]:
        return lambda: broker.ctl("eval", script.format(vhost=vhost, user=USER, **values))

    def queues(what: str, *kinds: str) -> Callable[[], object]:
        return told(_QUEUES, what=what, kinds=", ".join(f'<<"{kind}">>' for kind in kinds))

    return {
        "the queues of processes are purged": Loss(queues(_PURGED, "node", "mark"), **MAIL),
        "the queues of processes are deleted": Loss(queues(_DELETED, "node", "mark"), **MAIL),
        "the queues of normal channels are purged": Loss(queues(_PURGED, "channel"), **JOBS),
        "all queues are deleted": Loss(queues(_DELETED, "ledger", "channel", "node", "mark")),
        "the exchange for groups is deleted": Loss(lambda: asyncio.run(_delete_exchange(url)), **MAIL),
        "the vhost is made anew": Loss(told(_VHOST)),
    }


async def _delete_exchange(url: str) -> None:
    async with await aiormq.connect(url) as connection:
        await (await connection.channel()).exchange_delete("asgi.groups")
