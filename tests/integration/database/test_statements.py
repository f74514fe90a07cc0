"""Queries that are built once, on each engine: other values give what the ORM itself would find."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from django.db import connections
from django.db.models import F

from channels_trunk.models import QueuedMessage
from channels_trunk.transports.database import statements as module
from channels_trunk.transports.database.statements import Statements, removal, update
from tests.integration.database.conftest import in_thread
from tests.plugins.django_databases import DjangoDatabase


class Queries:
    """Builds, and counts how often."""

    def __init__(self, alias: str) -> None:
        self.prefix = uuid4().hex
        self.rows = QueuedMessage.objects.using(alias).filter(prefix=self.prefix)
        self.built = 0

    def found(self, limit: int, *, channel: str, rank: int) -> Any:
        self.built += 1
        rows = self.rows.filter(channel=channel, rank__gte=rank).order_by("rank")
        return rows.values_list("rank", "expires_at", "frame")[:limit].query

    def moved(self, *, by: int) -> Any:
        self.built += 1
        return update(self.rows, rank=F("rank") + by)

    def gone(self, *, before: float) -> Any:
        self.built += 1
        return removal(self.rows.filter(expires_at__lt=before))

    def row(self, channel: str, rank: int) -> tuple[Any, ...]:
        return self.prefix, channel, rank, rank + 0.5, bytes([rank % 256]) * 3


async def with_statements(database: DjangoDatabase, work: Callable[[Statements, Queries], None]) -> None:
    def in_its_thread(_: Any) -> None:
        queries = Queries(database.alias)
        connections[database.alias].ensure_connection()
        work(Statements(connections[database.alias]), queries)
        queries.rows.delete()

    await in_thread(database.alias, in_its_thread)


async def test_the_same_text_with_other_values(database: DjangoDatabase) -> None:
    def work(statements: Statements, queries: Queries) -> None:
        statements.insert(QueuedMessage, [queries.row("a", n) for n in range(5)])
        statements.insert(QueuedMessage, [queries.row("b", n) for n in range(5, 10)])
        for channel, rank, expected in (("a", 0, [0, 1]), ("a", 3, [3, 4]), ("b", 0, [5, 6]), ("c", 0, [])):
            rows = statements.rows(queries.found, 2, channel=channel, rank=rank)
            assert [(int(row[0]), float(row[1]), bytes(row[2])) for row in rows] == [
                (number, number + 0.5, bytes([number]) * 3) for number in expected
            ]
        assert queries.built == 1
        assert len(statements.rows(queries.found, 3, channel="a", rank=0)) == 3
        assert queries.built == 2
        for by in (100, -40):
            assert statements.changed(queries.moved, by=by) == 10
        assert sorted(queries.rows.values_list("rank", flat=True)) == list(range(60, 70))
        for before, gone in ((2.5, 2), (2.5, 0), (100.0, 8)):
            assert statements.changed(queries.gone, before=before) == gone
        assert queries.built == 4

    await with_statements(database, work)


async def test_many_rows_at_once(database: DjangoDatabase) -> None:
    def work(statements: Statements, queries: Queries) -> None:
        for count in (1, 32, 33, 700):
            rows = [queries.row(f"of {count}", number) for number in range(count)]
            statements.insert(QueuedMessage, rows)
            assert queries.rows.filter(channel=f"of {count}").count() == count

    await with_statements(database, work)


async def test_an_engine_that_changes_values(database: DjangoDatabase, monkeypatch: Any) -> None:
    """Where stand-ins cannot be found again, the query is built each time."""

    def work(statements: Statements, queries: Queries) -> None:
        statements.insert(QueuedMessage, [queries.row("a", n) for n in range(3)])
        monkeypatch.setattr(module, "_stand_in", lambda number, value: value if number else f" {value}")
        for rank in (0, 1, 2):
            assert len(statements.rows(queries.found, 5, channel="a", rank=rank)) == 3 - rank

    await with_statements(database, work)


async def test_what_is_known_does_not_grow_for_ever(database: DjangoDatabase, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "_KNOWN_AT_MOST", 3)

    def work(statements: Statements, queries: Queries) -> None:
        for limit in range(1, 8):
            statements.rows(queries.found, limit, channel="a", rank=0)
            assert len(statements._known) <= 3

    await with_statements(database, work)
