"""What goes into one statement, and what is too large for any."""

from collections.abc import Sequence
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels_trunk.transports.base import TooLarge
from channels_trunk.transports.database.sizes import Sizes

PACKET = 100_000
MOST = 32


class Cursor:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, statement: str) -> None:
        assert statement == "SELECT @@max_allowed_packet"

    def fetchone(self) -> tuple[int]:
        return (PACKET,)


class Connection:
    vendor = "mysql"
    cursor = Cursor

    def __init__(self, driver: str) -> None:
        self.connection = type("Connection", (), {"__module__": driver})()


def written(data: bytes, driver: str) -> int:
    """As the drivers do."""
    if driver.startswith("pymysql"):
        return len(data.hex())
    return sum(2 if byte in b"\0\n\r\x1a\"'\\" else 1 for byte in data)


@given(
    st.lists(st.tuples(st.sampled_from([0, 100, 5_000, 20_000, 45_000]), st.sampled_from([b"a", b"'", b"\0a"]))),
    st.sampled_from(["MySQLdb.connections", "pymysql.connections"]),
)
def test_no_statement_is_larger_than_the_engine_takes(rows: list[tuple[int, bytes]], driver: str) -> None:
    data = [("prefix", number, kind * (size // len(kind))) for number, (size, kind) in enumerate(rows)]
    sizes = Sizes(Connection(driver))
    parts: list[Sequence[Sequence[Any]]] = []
    try:
        parts.extend(sizes.parts(data, most=MOST))
    except TooLarge:
        assert any(written(frame, driver) > PACKET - 5_000 for *_, frame in data)
        return
    assert [row for part in parts for row in part] == data
    for part in parts:
        assert 0 < len(part) <= MOST
        assert sum(written(frame, driver) + 200 for *_, frame in part) + 500 <= PACKET


def test_an_engine_without_a_limit() -> None:
    connection = type("Connection", (), {"vendor": "oracle"})()
    rows = [(b"a" * 1_000,)] * 40
    assert list(map(len, Sizes(connection).parts(rows, most=MOST))) == [32, 8]


def test_a_row_that_nothing_can_be_done_about() -> None:
    sizes = Sizes(Connection("pymysql.connections"))
    with pytest.raises(
        TooLarge, match="the database takes 100000 bytes at once: send less, or raise its max_allowed_packet"
    ):
        list(sizes.parts([("x", bytes(60_000))], most=MOST))
