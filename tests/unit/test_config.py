"""`channels_trunk.config()`: what each URL gives, and what each wrong one is told, without its password."""

import subprocess
import sys
from typing import Any

import pytest

import channels_trunk
from channels_trunk import config
from channels_trunk.exceptions import OptionsError
from channels_trunk.layers import PostgresChannelLayer, RabbitMQChannelLayer, SQLiteChannelLayer

SQLITE = "channels_trunk.layers.SQLiteChannelLayer"
POSTGRES = "channels_trunk.layers.PostgresChannelLayer"
RABBITMQ = "channels_trunk.layers.RabbitMQChannelLayer"
DATABASE = "channels_trunk.layers.DatabaseChannelLayer"
MEMORY = "channels_trunk.layers.MemoryChannelLayer"


@pytest.mark.parametrize(
    ("url", "backend", "given"),
    [
        ("sqlite:///channels.sqlite3", SQLITE, {"path": "channels.sqlite3"}),
        ("sqlite:///x?file_mode=0660", SQLITE, {"path": "x", "file_mode": "0660"}),
        ("sqlite:///x?file_mode=660", SQLITE, {"path": "x", "file_mode": "660"}),
        ("sqlite:////srv/my%20site/channels.sqlite3", SQLITE, {"path": "/srv/my site/channels.sqlite3"}),
        ("sqlite:///C:/sites/channels.sqlite3", SQLITE, {"path": "C:/sites/channels.sqlite3"}),
        ("sqlite://", SQLITE, {}),
        ("sqlite:///", SQLITE, {}),
        ("SQLITE://?database=messages", SQLITE, {"database": "messages"}),
        ("  sqlite:///x \n", SQLITE, {"path": "x"}),
        ("postgres://", POSTGRES, {}),
        ("postgresql://?database=news", POSTGRES, {"database": "news"}),
        ("postgres://me:p%40%2Fss@db:5433/app", POSTGRES, {"dsn": "postgresql://me:p%40%2Fss@db:5433/app"}),
        ("postgresql:///app", POSTGRES, {"dsn": "postgresql:///app"}),
        ("postgresql://?service=live", POSTGRES, {"dsn": "postgresql://?service=live"}),
        ("postgres://a,b/app", POSTGRES, {"dsn": "postgresql://a,b/app"}),
        (
            "postgres://me@db/app?sslmode=require&schema=news&options=-c%20geqo%3Doff&capacity=9",
            POSTGRES,
            {"dsn": "postgresql://me@db/app?sslmode=require&options=-c%20geqo%3Doff", "schema": "news", "capacity": 9},
        ),
        ("amqp://", RABBITMQ, {"host": "amqp://"}),
        ("amqp://me:p%40ss@mq/news", RABBITMQ, {"host": "amqp://me:p%40ss@mq/news"}),
        (
            "amqps://me:pass@mq1,mq2:5673,[::1]/%2F?heartbeat=30&queue_type=quorum",
            RABBITMQ,
            {
                "host": [f"amqps://me:pass@{host}/%2F?heartbeat=30" for host in ("mq1", "mq2:5673", "[::1]")],
                "queue_type": "quorum",
            },
        ),
        ("database://", DATABASE, {}),
        ("database://?prefix=x", DATABASE, {"prefix": "x"}),
        ("database://news?polling_interval=1", DATABASE, {"database": "news", "polling_interval": 1}),
        ("memory://", MEMORY, {}),
        ("memory:///", MEMORY, {}),
    ],
)
def test_urls(url: str, backend: str, given: dict[str, Any]) -> None:
    assert config(url) == {"BACKEND": backend, "CONFIG": given}


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [
        ("capacity=5", "capacity", 5),
        ("expiry=0.5", "expiry", 0.5),
        ("group_expiry=0", "group_expiry", 0),
        ("prefix=5", "prefix", "5"),
        ("prefix=my+site", "prefix", "my site"),
        ("prefix=true", "prefix", "true"),
        *((f"inline={word}", "inline", True) for word in ("true", "True", "1", "yes", "on")),
        *((f"inline={word}", "inline", False) for word in ("false", "FALSE", "0", "no", "off")),
        ("symmetric_encryption_keys=secret", "symmetric_encryption_keys", ["secret"]),
        ("symmetric_encryption_keys=1&symmetric_encryption_keys=b", "symmetric_encryption_keys", ["1", "b"]),
        ('channel_capacity={"jobs.*":10,"x":2}', "channel_capacity", {"jobs.*": 10, "x": 2}),
        ("resilience=%7B%22drop%22%3A0.5%7D", "resilience", {"drop": 0.5}),
        ("gap_event=chat.gap", "gap_event", "chat.gap"),
        ("serializer_format=json", "serializer_format", "json"),
    ],
)
def test_options_have_the_type_that_they_need(query: str, name: str, value: Any) -> None:
    given = config(f"memory://?{query}")["CONFIG"]
    assert given == {name: value}
    assert type(given[name]) is type(value)


def test_the_layers_take_what_it_gives() -> None:
    layer = SQLiteChannelLayer(**config("sqlite:///some/file.sqlite3?capacity=7&auto_trim=off")["CONFIG"])
    assert (layer.find_settings().path.endswith("/some/file.sqlite3"), layer.capacity) == (True, 7)
    url = "postgres://me:p%40ss@[::1]:5433/app?application_name=a%20b&polling_interval=1"
    postgres = PostgresChannelLayer(**config(url)["CONFIG"]).find_postgres()
    assert postgres.where == "PostgreSQL at ::1:5433, database app"
    assert "password=p@ss" in postgres.conninfo(listening=False, application_name="")
    assert "application_name='a b'" in postgres.conninfo(listening=False, application_name="")
    cluster = RabbitMQChannelLayer(**config("amqp://me:p%40ss@a,b:5673/news?heartbeat=30")["CONFIG"])
    assert [str(address) for address in cluster._values["host"]] == ["a:5672, vhost 'news'", "b:5673, vhost 'news'"]
    assert {(address.password, address.heartbeat) for address in cluster._values["host"]} == {("p@ss", 30.0)}


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (None, "the channel layer's URL must be a string, not NoneType"),
        ("", "the channel layer's URL is empty; write for example sqlite:///channels.sqlite3"),
        ("hunter2", "the channel layer's URL is no URL; write for example"),
        ("sqlite:channels.sqlite3", "is no URL; write for example sqlite:///channels.sqlite3"),
        (
            "redis://:hunter2@cache/1",
            "begins with redis://, which is no channel layer; known are sqlite://, postgresql",
        ),
        ("postgre://me:hunter2@db/app", "begins with postgre://, which is no channel layer; did you mean postgres://?"),
        ("sqlite://channels.sqlite3", "the path of a SQLite file begins behind three slashes"),
        ("sqlite://:memory:", "a SQLite database in memory has no second process; write memory://"),
        ("sqlite:///:memory:", "a SQLite database in memory has no second process; write memory://"),
        ("sqlite:///x?capactiy=5", "URL: unknown option 'capactiy'; did you mean 'capacity'?"),
        ("sqlite:///x?wings=5", "URL: unknown option 'wings'; known options: auto_trim, busy_wait, capacity"),
        ("memory://?capacity=0", "URL['capacity']: must be a whole number of at least 1, not 0"),
        ("memory://?capacity=many", "URL['capacity']: must be a whole number of at least 1, not 'many'"),
        ("memory://?capacity=1&capacity=2", "URL['capacity']: must be a whole number of at least 1, not ['1', '2']"),
        ("memory://?inline=5", "URL['inline']: must be True or False, not 5"),
        ("memory://?expiry=60s", "URL['expiry']: must be a number of seconds, not '60s'"),
        ("memory://?channel_capacity={jobs", "URL['channel_capacity']: must be a dict"),
        ("memory://host", "behind memory:// stands nothing but options"),
        ("database://news/x", "behind database:// stands an alias in DATABASES, and nothing else"),
        ("database://me:hunter2@news", "behind database:// stands an alias in DATABASES, and nothing else"),
        ("postgres://me:hunter2@db/app?capactiy=5", "URL: unknown option 'capactiy'; did you mean 'capacity'?"),
        ("postgres://me:hunter2@db/app?sslmod=x", "URL: unknown option 'sslmod'; did you mean 'sslmode'?"),
        ("postgres://me:hunter2@db/app?wings=x", "unknown option 'wings'; it is neither an option of the layer nor"),
        ("postgres://me:hunter2@[db/app", "URL['dsn']: is no connection string or URL that libpq understands"),
        (
            "postgres://me:hun/ter2@db/app",
            "in a user, a password, a name or a value, '/', '?', '#' and '@' are written",
        ),
        ("postgres://me:hun?ter2=1@db/app", "are written %2F, %3F, %23 and %40"),
        ("postgres://me:hun#ter2@db/app", "are written %2F, %3F, %23 and %40"),
        ("amqp://me:hunter2@mq:port/", "URL['host']: the URL's port must be a number between 1 and 65535"),
        ("amqp://me:hunter2@mq/?heartbeat=x", "URL['host']: the URL's heartbeat must be a number of seconds"),
        ("amqp://me:hunter2@mq/a/b", "URL['host']: the URL has more than one name in its path"),
        ("amqp://me:hunter2@mq/?prefetch=5", "URL: unknown option 'prefetch'; did you mean 'prefetch_count'?"),
    ],
)
def test_wrong_urls(url: Any, text: str) -> None:
    with pytest.raises(OptionsError) as caught:
        config(url)
    assert text in str(caught.value)
    assert str(caught.value).startswith("the channel layer's URL")
    assert not any(word in str(caught.value) for word in ("hun", "ter2"))


def test_a_package_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "channels_trunk.layers.postgres", raising=False)

    with pytest.raises(OptionsError, match=r"needs psycopg 3: pip install 'channels-trunk\[postgres\]'"):
        config("postgres://db/app")


def test_importing_the_package_imports_nothing_else() -> None:
    script = (
        "import sys, channels_trunk; print(*sorted(m for m in sys.modules if m.startswith(('channels', 'django'))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["channels_trunk"]


def test_it_stays_a_function_after_its_module_was_imported() -> None:
    assert channels_trunk.config is config
    assert callable(channels_trunk.config)
    with pytest.raises(AttributeError, match="has no attribute 'confg'"):
        _ = channels_trunk.confg
