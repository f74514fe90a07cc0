"""Finds out what keeps the layer from working in its database, by a connection and a thread of its own. Blocks."""

import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from django.apps import apps
from django.db import Error

from channels_trunk.exceptions import SchemaMismatch, TransportError, TransportUnavailable
from channels_trunk.findings import Finding, Level, fault, find_server
from channels_trunk.transports.base import Busy

from .errors import Trouble, is_about_rights, is_read_only, result_of, trouble_of
from .session import Session
from .settings import DatabaseSettings

__all__ = ["examine", "find_pooler"]

# Where a server listens if the settings do not say.
_PORTS = {"postg": 5432, "mysql": 3306}  # by what the names of engines have in them
_ENOUGH_SPACE = 4 * 1024 * 1024
_ANSWERS_WITHIN = 15.0
# As long as a long message: a little room on a disk is no room. Bytes.
_SAMPLE = 65_536
_NO_DATABASE, _DAMAGED = 26, 11  # SQLite's results
Look = Callable[[Session], Finding | None]


def examine(settings: DatabaseSettings, *, path: str | None) -> Iterator[Finding]:
    """Say what will keep the layer from working; `path` is the file's, if the database is SQLite."""
    is_there = False
    if path is not None:
        found = _find_space(settings, path)
    else:
        place = _place_of(settings)
        found = None if place is None else find_server(*place, settings.where)
        is_there = place is not None and found is None
    found = found or _looked(settings, partial(_try_it, settings, path=path, is_there=is_there))
    if found is not None:
        yield found


def find_pooler(settings: DatabaseSettings) -> Finding | None:
    """Say that there is a pooler in front of PostgreSQL that the settings do not know of; None if nobody answers."""
    if settings.database.get("DISABLE_SERVER_SIDE_CURSORS"):
        return None

    def look(session: Session) -> Finding | None:
        with suppress(Busy, TransportError), session.translated():
            session.ensure()
            if session.is_pooled():
                return _pooler(settings)
        return None

    return _looked(settings, look)


def _pooler(settings: DatabaseSettings) -> Finding:
    return Finding(
        level=Level.WARNING,
        code="pooler",
        text=f"{settings.where}: there is a pooler in front of the server; what the layer sets for its own session is "
        f"handed on to others there",
        remedy="If it pools transactions, set 'DISABLE_SERVER_SIDE_CURSORS' to True in DATABASES, which Django needs "
        "there as well; if it pools sessions, silence this.",
    )


def _looked(settings: DatabaseSettings, look: Look) -> Finding | None:
    """Look in a thread of its own: Django's connection of the caller's may be in the middle of something."""
    session = Session(settings, away=lambda _error: None, stalled=lambda _text: None)
    findings: list[Finding | None] = []

    def run() -> None:
        try:
            findings.append(look(session))
        finally:
            session.end()

    thread = threading.Thread(target=run, name="channels-trunk-examination", daemon=True)
    thread.start()
    thread.join(_ANSWERS_WITHIN)
    if not thread.is_alive():
        return findings[0] if findings else None
    session.cut()
    return fault(
        "server-silent",
        f"{settings.where}: the server takes connections and does not answer within {_ANSWERS_WITHIN:g} s",
        "See that it is the database that listens there, and that it does not stand still.",
    )


# --- where it is


def _place_of(settings: DatabaseSettings) -> tuple[str, int] | None:
    """Host and port, or the path of a socket; None where the client library alone knows."""
    database = settings.database
    usual = next((port for word, port in _PORTS.items() if word in database["ENGINE"]), None)
    host, port = str(database.get("HOST") or ""), database.get("PORT") or usual
    if not host or port is None or "," in host:
        return None
    if host.startswith("/"):
        # PostgreSQL's is a folder, MySQL's the socket itself.
        return (f"{host}/.s.PGSQL.{port}" if os.path.isdir(host) else host), 0
    return host, int(port)


def _find_space(settings: DatabaseSettings, path: str) -> Finding | None:
    with suppress(OSError):
        if shutil.disk_usage(os.path.dirname(path)).free < _ENOUGH_SPACE:
            return _full(f"{settings.where}: there is no space left on the disk of {path}")
    return None


# --- what it lets us do


class _Enough(Exception):
    """All was tried; nothing of it is to stay."""


def _try_it(settings: DatabaseSettings, session: Session, *, path: str | None, is_there: bool) -> Finding | None:
    """Connect, and do in each table what the layer does there."""
    try:
        with session.translated():
            session.ensure()
    except (Busy, TransportError) as error:
        return _of_file(settings, path, error) if path is not None else _not_connected(error, is_there=is_there)
    try:
        with session.transaction():
            _use_tables(session)
            raise _Enough
    except _Enough:
        return _slow_mode(settings, path) if path is not None and not session.has_wal() else None
    except SchemaMismatch as error:
        return fault("tables-missing", str(error), "Run `manage.py migrate` for the layer's database.")
    except (Busy, TransportError) as error:
        return _of_file(settings, path, error) if path is not None else _refused(settings, error)


def _use_tables(session: Session) -> None:
    name = f"trunk-doctor-{secrets.token_hex(4)}"
    samples = {"CharField": name, "BinaryField": b"x" * _SAMPLE, "FloatField": 0.0}
    for model in apps.get_app_config("channels_trunk").get_models():
        fields = [field for field in model._meta.concrete_fields if field.get_internal_type() != "BigAutoField"]
        sample = {field.attname: samples.get(field.get_internal_type(), 0) for field in fields}
        rows = session.model(model.__name__)
        row = rows.filter(pk=rows.create(**sample).pk)
        row.update(**{name: value for name, value in sample.items() if name != model._meta.pk.attname})
        list(row)
        row.delete()


def _cause(error: BaseException) -> Error | None:
    """What Django said."""
    cause = error.__cause__
    while cause is not None and not isinstance(cause, Error):
        cause = cause.__cause__
    return cause


def _said(error: BaseException) -> str:
    return " ".join(str(error.__cause__ if isinstance(error, Busy) and error.__cause__ else error).split())


def _full(text: str) -> Finding:
    return fault("disk-full", text, "Make room on the disk, or put the database on another one.")


def _not_connected(error: BaseException, *, is_there: bool) -> Finding:
    if not is_there:
        return fault(
            "not-connected",
            _said(error),
            "See that the server runs and listens there; and that user, password and database are right.",
        )
    return fault(
        "login-refused",
        f"the server is there, and refuses this connection: {_said(error)}",
        "Correct the user, the password, the name of the database or the TLS settings in DATABASES; the server says "
        "who may connect from where, and how many may.",
    )


def _refused(settings: DatabaseSettings, error: BaseException) -> Finding:
    cause = _cause(error)
    if cause is not None and is_about_rights(cause):
        remedy = "Grant SELECT, INSERT, UPDATE and DELETE on the tables that begin with channels_trunk_ to the user."
        return fault("no-rights", _said(error), remedy)
    if cause is not None and is_read_only(cause):
        return fault("server-read-only", _said(error), "Name the primary server in DATABASES: this one only reads.")
    if not isinstance(error, Busy) or isinstance(error.__cause__, TransportUnavailable):
        return fault("server-failed", _said(error), "See what the server's log says of it.")
    return fault(
        "tables-locked",
        f"{settings.where}: another transaction holds locks that keep the layer from writing to its tables",
        "Find out which session holds them (a migration, a backup, a console), and end that.",
    )


def _of_file(settings: DatabaseSettings, path: str, error: BaseException) -> Finding:
    cause = _cause(error)
    result = None if cause is None else result_of(cause)
    if isinstance(error, Busy) and cause is not None and not isinstance(error.__cause__, TransportUnavailable):
        return _busy_file(settings, path, cause)
    if result == _DAMAGED:
        return fault(
            "file-damaged", f"{_said(error)} ({path})", "Stop every process that uses the file, and restore a backup."
        )
    code = "file-no-database" if result == _NO_DATABASE else "file-unusable"
    return fault(code, f"{_said(error)} ({path})", "Mend what the message names, or name another file in DATABASES.")


def _slow_mode(settings: DatabaseSettings, path: str) -> Finding:
    return Finding(
        level=Level.WARNING,
        code="no-wal",
        text=f"{settings.where}: {path} is not in WAL mode, so that those who read and the one who writes wait for one "
        f"another",
        remedy="Add 'OPTIONS': {'init_command': 'PRAGMA journal_mode = WAL'} to the entry in DATABASES.",
    )


def _busy_file(settings: DatabaseSettings, path: str, cause: Error) -> Finding:
    if trouble_of(cause) is Trouble.FULL:
        return _full(f"{settings.where}: {cause} ({path})")
    return fault(
        "file-locked",
        f"{settings.where}: another program holds the lock of {path} for long",
        "Find out who writes to the file for so long, and end that; or give the layer a database of its own.",
    )
