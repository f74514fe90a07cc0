"""What system checks, the doctor and commands ask of a layer; each layer says what is so in its case."""

from collections.abc import Hashable, Iterable
from typing import ClassVar

from channels_trunk.findings import Finding
from channels_trunk.stats import Survey

from .files import LayerFile

__all__ = ["Examined"]


class Examined:
    """The answers of a layer about which nothing particular is known."""

    stays_in_process: ClassVar[bool] = False
    """Whether its messages never reach another process, whatever the options say."""

    def place(self) -> Hashable | None:
        """What two layers have in common that share their engine, by the settings alone; None if nothing is known."""
        return None

    def survey(self) -> Survey | None:
        """What the engine holds, as far as it is cheap to know; None if nothing is known. Blocks."""
        return None

    def examine(self) -> Iterable[Finding]:
        """Say what is wrong with the engine or the way to it, without the hub; no finding if all is well. Blocks."""
        return ()

    def database_alias(self) -> str | None:
        """The alias in DATABASES that the layer is in; None if it is in none of them."""
        return None

    def database_name(self) -> str | None:
        """The name of the database that it is in or beside, by the settings as they are now; None if it is in none.

        In a test run, what Django does with the test database of that name concerns the layer.
        """
        return None

    def needs_migrations(self) -> bool:
        """Whether `manage.py migrate` makes its tables, in the database of that alias."""
        return False

    def file(self) -> LayerFile | None:
        """The SQLite file that it is on; None if it is on none. No I/O."""
        return None

    def find_pooler(self) -> Finding | None:
        """Say that a pooler in front of the server is in the layer's way. Blocks."""
        return None

    def vacuum(self) -> tuple[int, int] | None:
        """Give what is free in file() back to the system; its size before and after, or None if it is not there.

        Blocks, and holds up everybody who writes to the file meanwhile. Raises TransportUnavailable if it is in use.
        """
        return None

    def schema_script(self, *, drop: bool = False) -> str | None:
        """The SQL that makes the layer's tables, or removes them; None if it has none, or Django's migrations do."""
        return None
