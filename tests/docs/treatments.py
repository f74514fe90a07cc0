"""What is done with a code block. A page's plan holds one treatment for each block, in order."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Run:
    """Python that is run in the page's interpreter, where blocks see what those before them made."""

    begins: str
    before: str = ""
    after: str = ""
    """Code of the test around the block: what it needs, and what must hold afterwards."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Python that is added to the settings of a tiny project: it is checked by Django, and its layers are used."""

    begins: str
    messages: Sequence[str] = ()
    """The ids that the system checks must print, and no others."""
    replace: tuple[str, str] = ("", "")
    """A place that the test must not write to, and what it writes to instead."""
    migrate: Sequence[str] = ()
    """The aliases in which tables have to be made."""
    postgres: bool = False
    """The block names a PostgreSQL: a private one takes its place."""
    pooled: bool = False
    """It names a PgBouncer in front of it as well."""
    rabbitmq: bool = False
    """The block names a RabbitMQ: a private one takes its place."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A whole file of the page's project; the page's scenario works with it."""

    begins: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Shell:
    """Commands: each line is in the table of commands, or the page's scenario runs it."""

    begins: str
    in_scenario: bool = False


@dataclass(frozen=True, kw_only=True)
class Unit:
    """An ini file for systemd: it is parsed, and its command is treated as one of a shell block."""

    begins: str


@dataclass(frozen=True, kw_only=True)
class Schema:
    """SQL that must do what schema.sql does; see test_reference."""

    begins: str


Treatment = Run | Settings | File | Shell | Unit | Schema


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is done with the blocks of one page."""

    blocks: Sequence[Treatment] = ()
    settings: str = ""
    """Settings of the project in which the page's Python is run."""
    languages: dict[str, int] = field(default_factory=dict)
    """How many blocks of languages that nobody can run there are: pictures, output, JavaScript."""
