"""What is asked with every message: the ORM builds it once for each connection; after that, values alone are new.

To build a query takes ten times as long as to ask it, and on SQLite all other processes wait meanwhile for the lock.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from django.db.models import sql

__all__ = ["Statements", "removal", "update"]

# Larger batches are rare, and the cost of building is shared by many rows.
_ROWS_AT_MOST = 32
_KNOWN_AT_MOST = 500

Build = Callable[..., Any]


def update(rows: Any, **changes: Any) -> Any:
    """The query that QuerySet.update() asks."""
    query = rows.query.chain(sql.UpdateQuery)
    query.add_update_values(changes)
    return query


def removal(rows: Any) -> Any:
    """The query by which QuerySet.delete() removes rows that no others refer to."""
    return rows.query.chain(sql.DeleteQuery)


class _Statement(NamedTuple):
    """SQL, its parameters, and the names of the values that take the places of some."""

    text: str
    parameters: Sequence[Any]
    places: Sequence[str | None]
    read: Callable[[Sequence[Any]], list[Sequence[Any]]]


class Statements:
    """Of one connection of Django's, for the thread that it belongs to.

    A query is made by `build(*shape, **values)`: `shape` is what the text depends on (a limit, a number of rows),
    `values` are what it is asked with: strings, integers, floats. Always the same build, shape and kinds of values give
    the same text.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._known: dict[Hashable, _Statement | None] = {}

    def rows(self, build: Build, *shape: Hashable, **values: Any) -> list[Sequence[Any]]:
        """The rows of a query."""
        statement, parameters = self._prepared(build, shape, values)
        with self._connection.cursor() as cursor:
            cursor.execute(statement.text, parameters)
            return statement.read(cursor.fetchall())

    def changed(self, build: Build, *shape: Hashable, **values: Any) -> int:
        """How many rows an update() or removal() changed."""
        statement, parameters = self._prepared(build, shape, values)
        with self._connection.cursor() as cursor:
            cursor.execute(statement.text, parameters)
            return int(cursor.rowcount)

    def insert(self, manager: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows of a model; each has a value for every field but the primary key."""
        objects = [manager.model(**row) for row in rows]
        fields = [field for field in manager.model._meta.concrete_fields if not field.primary_key]
        text = self._insertion(manager.model, fields, objects)
        if text is None:
            manager.bulk_create(objects)
            return
        prepared = [
            field.get_db_prep_save(getattr(each, field.attname), self._connection)
            for each in objects
            for field in fields
        ]
        with self._connection.cursor() as cursor:
            cursor.execute(text, prepared)

    # --- building

    def _prepared(self, build: Build, shape: tuple[Hashable, ...], values: dict[str, Any]) -> tuple[_Statement, Any]:
        key = (build, shape)
        if key not in self._known:
            if len(self._known) >= _KNOWN_AT_MOST:
                self._known.clear()
            self._known[key] = self._with_places(build, shape, values)
        statement = self._known[key]
        if statement is None:
            statement = self._compiled(build(*shape, **values))
            return statement, statement.parameters
        parameters = [
            parameter if name is None else values[name]
            for parameter, name in zip(statement.parameters, statement.places, strict=True)
        ]
        return statement, parameters

    def _with_places(self, build: Build, shape: tuple[Hashable, ...], values: dict[str, Any]) -> _Statement | None:
        """Build with stand-ins, and look where they have gone; None if that cannot be told."""
        stand_ins = {name: _stand_in(number, value) for number, (name, value) in enumerate(values.items())}
        names = {stand_in: name for name, stand_in in stand_ins.items()}
        statement = self._compiled(build(*shape, **stand_ins))
        places = [names.get(parameter) for parameter in statement.parameters]
        # An engine may want strings or numbers in a form of its own.
        return statement._replace(places=places) if set(places) >= stand_ins.keys() else None

    def _compiled(self, query: Any) -> _Statement:
        compiler = query.get_compiler(connection=self._connection)
        text, parameters = compiler.as_sql()
        selected = getattr(compiler, "select", None) or ()
        converters = compiler.get_converters([expression for expression, *_ in selected])

        def read(rows: Sequence[Any]) -> list[Sequence[Any]]:
            return list(compiler.apply_converters(rows, converters) if converters else rows)

        return _Statement(text, tuple(parameters), (), read)

    def _insertion(self, model: Any, fields: Sequence[Any], objects: Sequence[Any]) -> str | None:
        """The text for so many rows; None if they are too many, or if the engine wants more than one statement."""
        if len(objects) > _ROWS_AT_MOST:
            return None
        key = (model, len(objects))
        if key not in self._known:
            query = sql.InsertQuery(model)
            query.insert_values(fields, objects)
            statements = query.get_compiler(connection=self._connection).as_sql()
            [(text, parameters), *more] = statements
            fits = not more and len(parameters) == len(fields) * len(objects)
            self._known[key] = _Statement(text, (), (), list) if fits else None
        known = self._known[key]
        return None if known is None else known.text


def _stand_in(number: int, value: Any) -> Any:
    """A value of the same kind that no query has by itself."""
    if isinstance(value, str):
        return f"stand-in {number}"
    return type(value)(2**40 + number)
