"""The private PostgreSQL: databases with and without tables, and nothing stays behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from trunkbench.django_tables import FILE
from trunkbench.peers import peer_named
from trunkbench.services import ServiceError, Services


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder into which the server's account may look."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def tables(place: dict[str, str]) -> set[str]:
    """The tables of a database."""
    with psycopg.connect(
        dbname=place["NAME"], user=place["USER"], password=place["PASSWORD"], host=place["HOST"], port=place["PORT"]
    ) as connection:
        return {row[0] for row in connection.execute("SELECT tablename::text FROM pg_tables WHERE schemaname='public'")}


def test_each_measurement_has_a_database_of_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the tables of the apps that are asked for, and gone when the measurement is over."""
    monkeypatch.setenv(FILE, "the file of a layer on SQLite that was measured before")
    with Services(data_directory=str(folder), postgres_options={"fsync": "off"}) as services:
        server = services.postgres
        assert server.version().split(".")[0].isdigit()
        assert tables(server.fresh_database("empty")) == set()
        migrated = tables(server.fresh_database("migrated", apps=["channels_postgres"]))
        assert {"channels_postgres_message", "channels_postgres_groupchannel"} <= migrated
        assert server.process_ids()
        services.clear_run("empty")
        services.clear_run("empty")  # it is gone
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            tables(server.place("empty"))
        config = peer_named("postgres").config(services, "b1")
        assert "dbname=b1" in config["dsn"]
    assert not list(folder.iterdir())


def test_a_setting_that_the_server_does_not_know_is_an_error(folder: Path) -> None:
    """And leaves nothing behind."""
    services = Services(data_directory=str(folder), postgres_options={"no_such_setting": "1"})
    with services, pytest.raises(ServiceError, match="postgres did not start"):
        services.postgres.version()
    assert not list(folder.iterdir())
