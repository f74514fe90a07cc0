"""The tables of the documentation say what the code says."""

import ast
import importlib.util
import inspect
import re
import sqlite3
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from channels.layers import InMemoryChannelLayer
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer, RedisPubSubLoopLayer
from django.apps import apps
from django.core.management.base import BaseCommand

from channels_trunk import checks, exceptions
from channels_trunk.codec.codec import FRAME_VERSION, SEALED_VERSION
from channels_trunk.codec.serializers import _EXT_TYPES
from channels_trunk.envelope import ControlOp, Kind
from channels_trunk.health import Health, State
from channels_trunk.layers import (
    DatabaseChannelLayer,
    MemoryChannelLayer,
    PostgresChannelLayer,
    RabbitMQChannelLayer,
    SQLiteChannelLayer,
)
from channels_trunk.layers.sync import SyncChannelLayer
from channels_trunk.options import CORE_OPTIONS, Option
from channels_trunk.stats import LayerStats
from channels_trunk.transports.base import EmbeddedTransport, Transport
from channels_trunk.transports.postgres import names as names_of_postgres
from channels_trunk.transports.sqlite.connection import SCHEMA_VERSION
from tests.docs.markdown import blocks, first_code, read, table

OPTIONS = "docs/reference/options.md"
API = "docs/reference/api.md"
STATS = "docs/reference/stats-and-health.md"
FRAMES = "docs/reference/frame-format.md"


def names(page: str, heading: str) -> list[str]:
    """The first column of a table."""
    return [first_code(row[0]) for row in table(page, heading)]


def shown(options: tuple[Option, ...]) -> list[tuple[str, str]]:
    """Names and defaults as the table has them."""
    return [(option.name, repr(option.default).replace("'", '"')) for option in options]


def test_options_of_all_layers() -> None:
    rows = [(first_code(row[0]), first_code(row[2])) for row in table(OPTIONS, "All layers")]
    assert rows == shown(CORE_OPTIONS)
    assert MemoryChannelLayer.options == CORE_OPTIONS


def test_options_of_sqlite() -> None:
    own = SQLiteChannelLayer.options[len(CORE_OPTIONS) :]
    rows = table(OPTIONS, "SQLiteChannelLayer")
    assert [(first_code(row[0]), first_code(row[2])) for row in rows] == shown(own)
    inert = [first_code(row[0]) for row in rows if "does nothing" in row[4]]
    assert inert == [option.name for option in own if option.inert]


def test_options_of_postgres() -> None:
    own = PostgresChannelLayer.options[len(CORE_OPTIONS) :]
    rows = table(OPTIONS, "PostgresChannelLayer")
    assert [(first_code(row[0]), first_code(row[2])) for row in rows] == shown(own)
    inert = [first_code(row[0]) for row in rows if "does nothing" in row[4]]
    assert inert == [option.name for option in own if option.inert]


def test_options_of_the_orm() -> None:
    own = DatabaseChannelLayer.options[len(CORE_OPTIONS) :]
    rows = table(OPTIONS, "DatabaseChannelLayer")
    assert [(first_code(row[0]), first_code(row[2])) for row in rows] == shown(own)


def test_tables_of_the_orm() -> None:
    models = {model._meta.db_table: model for model in apps.get_app_config("channels_trunk").get_models()}
    page = "docs/reference/database-tables.md"
    assert set(names(page, "DatabaseChannelLayer: tables")) >= set(models)
    rows = re.findall(r"^\| `(\w+)` \| ([a-z, ]+) \|", read(page).partition("| column |")[2], re.MULTILINE)
    shown_columns = set()
    for column, places in rows:
        places = "sequencer, logrow, queuedmessage, member, node" if places == "all" else places
        shown_columns |= {(f"channels_trunk_{place}", column) for place in places.split(", ")}
    real = {(name, field.column) for name, model in models.items() for field in model._meta.concrete_fields}
    assert {place for place in real if place[1] != "id"} == shown_columns


def test_options_of_rabbitmq() -> None:
    own = RabbitMQChannelLayer.options[len(CORE_OPTIONS) :]
    rows = table(OPTIONS, "RabbitMQChannelLayer")
    # Its default is kept as an address, and shown as the URL that gives it.
    expected = [
        (name, '"amqp://guest:guest@127.0.0.1/"' if name == "host" else default) for name, default in shown(own)
    ]
    assert [(first_code(row[0]), first_code(row[2])) for row in rows] == expected
    assert own[0].check("amqp://guest:guest@127.0.0.1/") == own[0].default
    inert = [first_code(row[0]) for row in rows if "does nothing" in row[4]]
    assert inert == [option.name for option in own if option.inert]


def test_options_in_the_readme_are_some_of_them() -> None:
    defaults = dict(shown((*PostgresChannelLayer.options, *SQLiteChannelLayer.options)))
    rows = [(first_code(row[0]), first_code(row[1])) for row in table("README.md", "Options")]
    assert rows
    for name, default in rows:
        # No default is shown where it is nothing.
        assert default == ("" if defaults[name] in ("None", "()") else defaults[name]), name


# Of channels-lite 0.4, which the tests do not install.
LITE = {
    *("database", "expiry", "capacity", "channel_capacity", "group_expiry", "polling_interval", "polling_idle_timeout"),
    *("auto_trim", "enforce_capacity", "serializer_format", "symmetric_encryption_keys", "pool_size"),
}


def options_of_channels_redis() -> set[str]:
    """What the classes of either layer name."""
    classes = (RedisChannelLayer, RedisPubSubChannelLayer, RedisPubSubLoopLayer)
    named = {name for each in classes for name in inspect.signature(each).parameters}
    return named - {"args", "kwargs", "channel_layer"}


@pytest.mark.parametrize(
    ("page", "theirs"),
    [
        ("in-memory", set(inspect.signature(InMemoryChannelLayer).parameters) - {"kwargs"}),
        ("channels-redis", options_of_channels_redis()),
        ("channels-lite", LITE),
    ],
)
def test_every_option_of_others_is_listed_and_is_what_the_page_says(page: str, theirs: set[str]) -> None:
    known = {option.name: option for option in SQLiteChannelLayer.options}
    rows = table(f"docs/howto/move-from-{page}.md", "Options")
    listed = {name: row[-1] for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert set(listed) == theirs
    for name, here in listed.items():
        assert (name in known) != here.startswith("remove"), name
        assert name not in known or bool(known[name].inert) == ("does nothing" in here), name


def test_options_of_channels_postgres_are_there() -> None:
    known = {option.name: option for option in PostgresChannelLayer.options}
    rows = table("docs/howto/move-from-channels-postgres.md", "Options")
    listed = {name: row[1] for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert set(listed) <= set(known)
    inert = {name for name, here in listed.items() if "does nothing" in here}
    assert inert == {name for name in known if known[name].inert}
    assert options_of_channels_postgres() <= set(listed)


def options_of_channels_postgres() -> set[str]:
    """What their class names. It cannot be imported here: its module needs Django's apps."""
    spec = importlib.util.find_spec("channels_postgres")
    assert spec
    assert spec.submodule_search_locations
    module = ast.parse((Path(spec.submodule_search_locations[0]) / "core.py").read_text())
    [init] = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    return {argument.arg for argument in init.args.args} - {"self"}


def test_numbers() -> None:
    assert names(STATS, "Numbers") == list(LayerStats.__struct_fields__)
    types = {row[1] for row in table(STATS, "Numbers")}
    assert types == {kind.__name__ for kind in LayerStats.__annotations__.values()}


def test_numbers_that_are_worth_a_look_exist() -> None:
    rows = table("docs/howto/watch.md", "What to look at")
    mentioned = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert mentioned
    assert mentioned <= set(LayerStats.__struct_fields__)


def test_health() -> None:
    text = read(STATS)
    assert names(STATS, "Health") == list(Health.__struct_fields__)
    assert re.findall(r"^\| `([a-z]+)` \| [^|]+ \|$", text, re.MULTILINE) == [state.value for state in State]


def test_checks() -> None:
    rows = table("docs/reference/checks.md", "System checks")
    sources = "".join(path.read_text() for path in Path(checks.__file__).parent.glob("*.py"))
    in_code = set(re.findall(r'id="(channels_trunk\.[EW]\d+)"', sources))
    assert {first_code(row[0]) for row in rows} == in_code
    assert [row[1] for row in rows] == ["error" if ".E" in row[0] else "warning" for row in rows]


def test_methods_of_the_layer() -> None:
    documented = {re.split(r"\W", re.sub("await ", "", cell), maxsplit=1)[0] for cell in methods_in_table()}
    public = {name for name in vars(SQLiteChannelLayer) if not name.startswith("_")}
    public |= {name for name in vars(SQLiteChannelLayer.__mro__[1]) if not name.startswith("_")}
    # What is for the layers' own classes, and for the checks.
    inner = {"extensions", "options", "sync", "find_settings", "is_in_memory"}
    inner |= {"survey", "examine", "place", "encryption_keys", "crosses_processes", "stays_in_process"}
    inner |= {"database_alias", "database_name", "needs_migrations", "file", "find_pooler", "schema_script"}
    assert documented == public - inner


def methods_in_table() -> list[str]:
    """Every `code` in the first column, which are signatures."""
    return [cell for row in table(API, "The layer") for cell in re.findall(r"`([^`]+)`", row[0])]


def test_async_methods_are_shown_with_await_and_with_their_arguments() -> None:
    for cell in methods_in_table():
        call: Any = ast.parse(cell.removeprefix("await "), mode="eval").body
        method = getattr(SQLiteChannelLayer, call.func.id)
        assert iscoroutinefunction(method) == cell.startswith("await "), cell
        arguments = [argument.id for argument in call.args] + [keyword.arg for keyword in call.keywords]
        assert arguments == list(inspect.signature(method).parameters)[1:], cell


def test_methods_of_the_sync_side() -> None:
    part = read(API).partition("## layer.sync")[2].partition("\n\n`layer.sync.receive")[0]
    documented = re.findall(r"`(\w+)`", part)
    assert sorted(documented) == sorted(name for name in vars(SyncChannelLayer) if not name.startswith("_"))


def test_exceptions() -> None:
    rows = {first_code(row[0]): re.findall(r"`(\w+)`", row[1]) for row in table(API, "Exceptions")}
    assert sorted(rows) == sorted(exceptions.__all__)
    for name, bases in rows.items():
        assert [base.__name__ for base in getattr(exceptions, name).__bases__] == bases, name


def test_frame_format() -> None:
    text = read(FRAMES)
    assert f"not encrypted have version {FRAME_VERSION}. Encrypted frames have version {SEALED_VERSION}," in text
    kinds = [row[0] for row in rows_after(text, "| kind | target is |")]
    assert kinds == [str(int(kind)) for kind in Kind]
    controls = [row[0] for row in rows_after(text, "| control | asks or says |")]
    assert controls == [str(int(op)) for op in ControlOp]
    extensions = {name: int(code) for code, name in re.findall(r"(\d) `(\w+)`", text)}
    assert extensions == {kind.__name__: code for kind, code in _EXT_TYPES.items()}


def rows_after(text: str, head: str) -> list[list[str]]:
    """The rows of the table with this head."""
    body = text.partition(head)[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body]


def test_sqlite_schema() -> None:
    [block] = [block for block in blocks("docs/reference/sqlite-files.md") if block.language == "sql"]
    script = resources.files("channels_trunk.transports.sqlite").joinpath("schema.sql").read_text()
    assert columns(block.code) == columns(script)
    assert names("docs/reference/sqlite-files.md", "Tables") == list(columns(script))
    assert f"Version {SCHEMA_VERSION} of the schema" in read("docs/reference/sqlite-files.md")


def columns(script: str) -> dict[str, list[Any]]:
    """Tables with their columns, as SQLite understands them."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(script)
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid").fetchall()
        return {name: connection.execute(f"PRAGMA table_info({name})").fetchall() for (name,) in tables}
    finally:
        connection.close()


def test_postgres_schema() -> None:
    page = "docs/reference/postgres-tables.md"
    script = resources.files("channels_trunk.transports.postgres").joinpath("schema.sql").read_text()
    made = {
        name: re.findall(r"^ {4}([a-z_]+) ", body, re.MULTILINE) or re.findall(r"(\w+) (?:text|bigint)", body)
        for name, body in re.findall(r"TABLE IF NOT EXISTS \{p\}(\w+) \((.*?)\)(?: WITH[^;]*)?;", script, re.DOTALL)
    }
    documented = {first_code(row[0]): re.findall(r"`(\w+)`", row[1]) for row in table(page, "Tables")}
    assert documented.pop("log_1") == []
    assert made.pop("log_1") == made["log_0"]
    assert documented == made
    assert f"Version {names_of_postgres.SCHEMA_VERSION} of the schema" in read(page)
    for name in re.findall(r"(?:SEQUENCE IF NOT EXISTS|FUNCTION) \{p\}(\w+)", script):
        assert f"`{name}`" in read(page)
    for number in (names_of_postgres.LOCK_CLASS, names_of_postgres.ALIVE_CLASS):
        assert f"class {number}" in read(page)


def test_commands() -> None:
    page = "docs/reference/commands.md"
    folder = Path(checks.__file__).parents[1] / "management" / "commands"
    modules = {path.stem for path in folder.glob("[a-z]*.py")}
    assert modules == {line.removeprefix("## ") for line in read(page).splitlines() if line.startswith("## ")}
    inherited = {option for action in BaseCommand().create_parser("", "")._actions for option in action.option_strings}
    for name in modules:
        command = import_module(f"channels_trunk.management.commands.{name}").Command()
        parser = command.create_parser("manage.py", name)
        own = {action.option_strings[0] for action in parser._actions if action.option_strings} - inherited
        assert set(names(page, name)) == own, name


def test_findings_of_the_doctor() -> None:
    package = Path(checks.__file__).parents[1]
    sources = "".join(
        path.read_text()
        for path in (*(package / "doctor").glob("*.py"), *package.rglob("examination.py"), package / "findings.py")
    )
    in_code = set(re.findall(r'(?:code=|fault\(\s*|SQLITE_\w+: )"([a-z]+(?:-[a-z]+)*)"', sources))
    assert set(names("docs/reference/commands.md", "What the doctor finds")) == in_code


def test_methods_of_a_transport() -> None:
    rows = table("docs/howto/write-a-transport.md", "2. What to implement")
    documented = {re.split(r"\W", cell)[0] for row in rows for cell in re.findall(r"`([^`]+)`", row[0])}
    assert documented == {name for name in vars(Transport) if not name.startswith("_")} - {"capabilities"}
    assert not any(name.endswith("_now") for name in documented)
    assert issubclass(EmbeddedTransport, Transport)
