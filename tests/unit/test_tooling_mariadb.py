"""The private MariaDB of a test run."""

import pymysql
import pytest

from tests.plugins.servers import MariaDbServer


def test_databases_are_their_own_and_of_ordinary_users(mariadb: MariaDbServer) -> None:
    one, other = mariadb.fresh_database(), mariadb.fresh_database()
    for url in (one, other):
        mariadb.execute("CREATE TABLE notes (text text) ENGINE=InnoDB", url=url)
    with pytest.raises(pymysql.err.OperationalError, match="denied"):
        mariadb.execute(f"USE {other.rsplit('/', 1)[1]}", url=one)
    for url in (one, other):
        mariadb.drop_database(url)
        with pytest.raises(pymysql.err.OperationalError, match="denied"):
            mariadb.execute("SELECT 1", url=url)


def test_the_shared_database_stays_the_same(mariadb: MariaDbServer) -> None:
    assert mariadb.url == mariadb.url
    assert mariadb.execute("SELECT 'text'", url=mariadb.url) == (("text",),)


def test_nobody_comes_in_without_a_password(mariadb: MariaDbServer) -> None:
    port = mariadb.url.rsplit(":", 1)[1].split("/")[0]
    for name in ("root", "administrator", "nobody"):
        with pytest.raises(pymysql.err.OperationalError, match="denied"):
            mariadb.execute("SELECT 1", url=f"mysql://{name}:@127.0.0.1:{port}/")
