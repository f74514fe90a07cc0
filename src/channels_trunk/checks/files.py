"""Checks of a SQLite file and the directory that it is in."""

import os
import sqlite3
from collections.abc import Iterator

from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning

from channels_trunk.file_systems import NETWORK_FILE_SYSTEMS, file_system_of
from channels_trunk.layers.files import LayerFile

from .entries import Entry

__all__ = ["check_file"]


def check_file(entry: Entry, file: LayerFile) -> Iterator[CheckMessage]:
    """Check what a layer on a SQLite file needs of the system."""
    directory = os.path.dirname(file.path)
    yield from _check_access(entry, file.path, directory)
    yield from _check_sqlite(entry, file.minimum_sqlite)
    kind = file_system_of(directory)
    if kind in NETWORK_FILE_SYSTEMS:
        yield CheckWarning(
            f"{entry.where}: {file.path} is on a network file system ({kind}).",
            hint="Put it on a local disk of the machine; SQLite's WAL mode does not work between machines.",
            id="channels_trunk.W003",
        )
    if file.shares_tables:
        yield CheckWarning(
            f"{entry.where}: the layer shares its SQLite file with the application's own tables.",
            hint="SQLite has one writer at a time: under heavy writing each waits for the other. Leave out 'database', "
            "and the layer has a file of its own beside the default database.",
            id="channels_trunk.W002",
        )


def _check_access(entry: Entry, path: str, directory: str) -> Iterator[CheckMessage]:
    if not os.path.isdir(directory) or not os.access(directory, os.W_OK | os.X_OK):
        yield Error(
            f"{entry.where}: the directory {directory} of the SQLite file is missing or cannot be written.",
            hint="Create it, or give this process the right to write there: SQLite makes files beside the database.",
            id="channels_trunk.E003",
        )
    elif os.path.isdir(path) or (os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK)):
        yield Error(
            f"{entry.where}: {path} is a directory, or this process may not read and write it.",
            hint="Run all processes as one user, or name another file.",
            id="channels_trunk.E005",
        )


def _check_sqlite(entry: Entry, minimum: tuple[int, ...]) -> Iterator[CheckMessage]:
    if sqlite3.sqlite_version_info < minimum:
        yield Error(
            f"{entry.where}: SQLite {sqlite3.sqlite_version} is too old.",
            hint=f"Use a newer Python build or system library: {'.'.join(map(str, minimum))} is the oldest.",
            id="channels_trunk.E006",
        )
