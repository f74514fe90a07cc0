"""What is asked with every message: the ORM builds it once for each connection; after that, values alone are new.

To build a query takes ten times as long as to ask it, and on SQLite all other processes wait meanwhile for the lock.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

from django.db.models import BinaryField, sql

from .cursors import Cursors
from .sizes import Sizes

__all__ = ["Statements", "removal", "update"]

# There is a text for each number of rows. Some databases take no more than a thousand values.
_ROWS_AT_ONCE = 32
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


class _Insertion(NamedTuple):
    """The text for a number of rows, None if the engine wants more than one statement; and what to make of values."""

    text: str | None
    forms: Sequence[Callable[[Any], Any] | None]


class Statements:
    """Of one connection of Django's, for the thread that it belongs to.

    A query is made by `build(*shape, **values)`: `shape` is what the text depends on (a limit, a number of rows),
    `values` are what it is asked with: strings, integers, floats. Always the same build, shape and kinds of values give
    the same text.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._cursors = Cursors(connection)
        self._insertions: dict[tuple[Any, int], _Insertion] = {}
        self._known: dict[Hashable, _Statement | None] = {}
        self._sizes: Sizes | None = None

    def rows(self, build: Build, *shape: Hashable, **values: Any) -> list[Sequence[Any]]:
        """The rows of a query."""
        statement, parameters = self._prepared(build, shape, values)
        return statement.read(self._cursors.rows(statement.text, parameters))

    def changed(self, build: Build, *shape: Hashable, **values: Any) -> int:
        """How many rows an update() or removal() changed."""
        statement, parameters = self._prepared(build, shape, values)
        return self._cursors.changed(statement.text, parameters)

    def insert(self, model: Any, rows: Sequence[Sequence[Any]]) -> None:
        """In a transaction: insert rows of a model; each has a value for every field but the primary key, in order."""
        for some in self.sizes.parts(rows, most=_ROWS_AT_ONCE):
            insertion = self._insertion(model, some)
            if insertion.text is None:
                names = [field.attname for field in _fields(model)]
                objects = [model(**dict(zip(names, row, strict=True))) for row in some]
                model._base_manager.using(self._connection.alias).bulk_create(objects)
                continue
            forms = insertion.forms
            prepared = [
                value if form is None else form(value) for row in some for form, value in zip(forms, row, strict=True)
            ]
            self._cursors.changed(insertion.text, prepared)

    @property
    def sizes(self) -> Sizes:
        """How much the connection takes at once."""
        if self._sizes is None:
            self._sizes = Sizes(self._connection)
        return self._sizes

    def connected(self) -> None:
        """The connection was made anew: see how much it takes, before a transaction has begun."""
        self._sizes = Sizes(self._connection)

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

        return _Statement(self._cursors.text(text), tuple(parameters), (), read)

    def _insertion(self, model: Any, rows: Sequence[Sequence[Any]]) -> _Insertion:
        """The text for so many rows."""
        key = (model, len(rows))
        if key not in self._insertions:
            fields = _fields(model)
            names = [field.attname for field in fields]
            query = sql.InsertQuery(model)
            query.insert_values(fields, [model(**dict(zip(names, row, strict=True))) for row in rows])
            [(text, parameters), *more] = query.get_compiler(connection=self._connection).as_sql()
            fits = not more and len(parameters) == len(fields) * len(rows)
            forms = [self._form(field, value) for field, value in zip(fields, rows[0], strict=True)]
            self._insertions[key] = _Insertion(self._cursors.text(text) if fits else None, forms)
        return self._insertions[key]

    def _form(self, field: Any, value: Any) -> Callable[[Any], Any] | None:
        """What makes a field's values what the driver takes; None where they are that as they are."""
        if isinstance(field, BinaryField):
            binary: Callable[[Any], Any] = self._connection.Database.Binary
            return binary
        stand_in = _stand_in(0, value)
        prepared = field.get_db_prep_save(stand_in, self._connection)
        if type(prepared) is type(stand_in) and prepared == stand_in:
            return None
        return partial(field.get_db_prep_save, connection=self._connection)


def _fields(model: Any) -> list[Any]:
    return [field for field in model._meta.concrete_fields if not field.primary_key]


def _stand_in(number: int, value: Any) -> Any:
    """A value of the same kind that no query has by itself."""
    if isinstance(value, str):
        return f"stand-in {number}"
    return type(value)(2**40 + number)
