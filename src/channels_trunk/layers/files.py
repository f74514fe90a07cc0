"""What checks and commands are told of a layer's SQLite file."""

from typing import NamedTuple

__all__ = ["LayerFile"]


class LayerFile(NamedTuple):
    """Where the file is, and what the layer expects of it."""

    path: str
    minimum_sqlite: tuple[int, ...] = ()
    """The oldest version of SQLite that will do, where it is not for Django to say."""
    shares_tables: bool = False
    """Whether Django keeps tables of its own in it, where another file would serve the layer better."""
