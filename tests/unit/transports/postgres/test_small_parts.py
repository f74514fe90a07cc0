"""Names, settings, errors: what stands in statements, what is said of a database, what a refusal means."""

import pytest

from channels_trunk.envelope import EVERY_NODE, Envelope, Kind
from channels_trunk.exceptions import SchemaMismatch, TransportError, TransportUnavailable
from channels_trunk.transports.base import Busy, Claimed
from channels_trunk.transports.postgres.errors import is_lost, refusal, translated
from channels_trunk.transports.postgres.moves import Move, Moves, Taken
from channels_trunk.transports.postgres.names import Names, is_for_queues, is_plain_name, lock_key_of, schema_script
from channels_trunk.transports.postgres.settings import PostgresSettings, describe
from channels_trunk.transports.postgres.wire import ServerError

NAMES = Names("Public", "Trunk_")
LONGEST_IDENTIFIER = 63


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a", True),
        ("_a9", True),
        ("A" * 41, True),
        ("a" * 42, False),
        ("9a", False),
        ("", False),
        ('a"', False),
        ("a b", False),
        ("ä", False),
        ("a\n", False),
    ],
)
def test_plain_names(name: str, plain: bool) -> None:
    assert is_plain_name(name) is plain


def test_tables_are_named_with_their_schema() -> None:
    assert NAMES.table("log_0") == '"Public".trunk_log_0'
    assert NAMES.fill("{p}x {i}y") == '"Public".trunk_x trunk_y'


def test_locks_differ_by_schema_and_prefix() -> None:
    keys = {names.lock_key for names in (NAMES, Names("public", "trunk_"), Names("Public", "b_"))}
    assert len(keys) == 3
    assert NAMES.lock_key == Names("Public", "TRUNK_").lock_key
    assert all(-(2**31) <= lock_key_of(str(n)) < 2**31 for n in range(1000))


def test_nothing_is_left_to_fill_in_the_script() -> None:
    script = schema_script(NAMES)
    for word in ("{p}", "{i}", "{lock_class}", "{lock_key}", "{hint_class}"):
        assert word not in script
    assert '"Public".trunk_publish' in script


def test_bells_fit_into_identifiers_and_differ() -> None:
    bells = NAMES.bells("x" * 100)
    names = [bells.node("n" * 24), bells.everybody, bells.group("g" * 99), bells.queue("q" * 99)]
    assert max(map(len, names)) <= LONGEST_IDENTIFIER
    assert len(set(names)) == 4
    for name in names:
        assert name.isascii()
        assert '"' not in name
    assert bells != NAMES.bells("y")
    assert bells != Names("other", "trunk_").bells("x" * 100)
    assert len({bells.group(str(n)) for n in range(10_000)}) == 64


def test_bells_of_normal_channels_are_told_from_others() -> None:
    bells = NAMES.bells("asgi")
    assert is_for_queues(bells.queue("jobs"))
    assert not any(map(is_for_queues, (bells.node("q_q1"), bells.everybody, bells.group("q"))))


def test_whom_an_envelope_concerns() -> None:
    bells = NAMES.bells("asgi")
    assert bells.of(Envelope(Kind.GROUP, "room", 1.0, b"")) == bells.group("room")
    assert bells.of(Envelope(Kind.CONTROL, "abc", 1.0, b"")) == bells.node("abc")
    assert bells.of(Envelope(Kind.CONTROL, EVERY_NODE, 1.0, b"")) == bells.everybody


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("postgresql://me:secret@db.example:5433/chat", "PostgreSQL at db.example:5433, database chat"),
        ("host=/run/postgresql dbname=chat password=secret", "PostgreSQL at /run/postgresql, database chat"),
        ("service=chat password=secret", "PostgreSQL at chat"),
        ("password=secret", "PostgreSQL at the local socket"),
        ("host=a,b port=1,2 dbname=chat", "PostgreSQL at a,b:1,2, database chat"),
    ],
)
def test_what_is_said_of_a_database(dsn: str, said: str) -> None:
    assert describe(dsn) == PostgresSettings(dsn).where == said


def test_settings_show_no_password() -> None:
    settings = PostgresSettings("host=a password=secret", listen_dsn="host=b password=secret")
    assert repr(settings) == "<PostgresSettings: PostgreSQL at a>"
    assert "secret" not in f"{settings} {[settings]!r}"


def test_connection_strings() -> None:
    settings = PostgresSettings("host=a connect_timeout=1", listen_dsn="host=b application_name=mine")
    writing = settings.conninfo(listening=False, application_name="ours")
    assert "host=a" in writing
    assert "connect_timeout=1" in writing
    assert "application_name=ours" in writing
    listening = settings.conninfo(listening=True, application_name="ours")
    assert "host=b" in listening
    assert "connect_timeout=5" in listening
    assert "application_name=mine" in listening
    assert "host=a" in PostgresSettings("host=a").conninfo(listening=True, application_name="")


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03", "57014"])
def test_what_may_be_tried_again(state: str) -> None:
    error = ServerError(state, "canceled")
    assert isinstance(translated(error, "here"), Busy)
    assert isinstance(refusal(error, "here"), Busy)
    assert not is_lost(error)


@pytest.mark.parametrize("state", ["08006", "53300", "57P01", "58030", "XX000", "25006"])
def test_what_is_away(state: str) -> None:
    error = ServerError(state, "gone")
    assert is_lost(error)
    for meant in (translated(error, "here"), refusal(error, "here")):
        assert type(meant) is TransportUnavailable
        assert str(meant) == f"here: gone (SQLSTATE {state})"


@pytest.mark.parametrize(
    ("state", "kind", "remedy"),
    [
        ("42501", TransportError, "manage.py trunk_schema"),
        ("42P01", SchemaMismatch, "set 'auto_create' to True"),
        ("42883", SchemaMismatch, "check 'schema' and 'table_prefix'"),
        ("3F000", SchemaMismatch, "check 'schema' and 'table_prefix'"),
        ("22P02", TransportError, "SQLSTATE 22P02"),
    ],
)
def test_what_a_person_must_mend(state: str, kind: type[Exception], remedy: str) -> None:
    meant = refusal(ServerError(state, "no"), "here")
    assert type(meant) is kind
    assert str(meant).startswith("here: no")
    assert remedy in str(meant)


def test_a_value_that_does_not_fit_costs_no_connection() -> None:
    assert not is_lost(ServerError("22001", "too long"))
    assert not is_lost(ServerError("23505", "there already"))


def test_moves_are_replaced_and_what_was_accepted_is_left_out_until_all_are_back() -> None:
    moves = Moves()
    rows = [Taken(1, "jobs", 2.0, b"x")]
    out, back = Move(7, rows, out=True), Move(8, rows, out=False)
    moves.replace(None, out)
    moves.replace(out, back)
    assert moves.unsure == [back]
    one, other = Claimed("jobs", 2.0, b"x"), Claimed("jobs", 2.0, b"x")
    moves.accept([one])
    for _ in range(2):
        assert [message is other for message in moves.without_accepted([one, other])] == [True]
    moves.all_are_back()
    assert moves.without_accepted([one]) == [one]
    moves.clear()
    assert moves.unsure == []
