"""Figures that the pages mention in passing are those of the code; those of speed are measured ones."""

import re
import subprocess
import sys
from typing import NamedTuple

import pytest

from channels_trunk.codec import large
from channels_trunk.hub import doorwatch, pump, quiet_log, supervisor
from channels_trunk.names import MAX_NAME_LENGTH
from channels_trunk.options import CORE_OPTIONS
from channels_trunk.router import router, windows
from channels_trunk.transports.database import beginning as orm_beginning
from channels_trunk.transports.database import claiming as orm_claiming
from channels_trunk.transports.database import nodes as orm_nodes
from channels_trunk.transports.database import pace as orm_pace
from channels_trunk.transports.database import part as orm
from channels_trunk.transports.database import session as orm_session
from channels_trunk.transports.database import transport as orm_transport
from channels_trunk.transports.postgres import connecting, names, settings, writer
from channels_trunk.transports.postgres import part as postgres
from channels_trunk.transports.postgres import upkeep as postgres_upkeep
from channels_trunk.transports.sqlite import connection, rings, traffic, transport, upkeep
from tests.docs.markdown import ROOT, pages, read

MIB = 1024 * 1024


class Figure(NamedTuple):
    """What a page says, and whether it holds."""

    page: str
    phrase: str
    holds: bool


def default(name: str) -> object:
    """The default of an option of all layers."""
    return next(option.default for option in CORE_OPTIONS if option.name == name)


LOG = "docs/explanation/sqlite-log.md"
ORM = "docs/explanation/database-log.md"
POSTGRES = "docs/explanation/postgres-log.md"
TABLES = "docs/reference/postgres-tables.md"
CAPACITY = "docs/explanation/capacity.md"
FIGURES = [
    Figure("README.md", "2 MiB at most when packed", default("max_message_size") == 2 * MIB),
    Figure("README.md", "holds 100 messages", default("capacity") == 100),
    Figure("README.md", "within `expiry` seconds (60)", default("expiry") == 60),
    Figure("README.md", "fewer than 100 characters", MAX_NAME_LENGTH == 100),
    Figure("README.md", "SQLite 3.35 (each or newer)", connection.MINIMUM_SQLITE == (3, 35, 0)),
    Figure("docs/howto/watch.md", "at most once in ten seconds", quiet_log._INTERVAL == 10),
    Figure("docs/howto/deploy.md", "within five seconds", upkeep.HEARTBEAT == 5),
    Figure("docs/howto/deploy.md", "after 30 seconds", upkeep.FORGOTTEN_AFTER == 30),
    Figure("docs/explanation/guarantees.md", "beyond sixty-four times its capacity", router._SLACK == 64),
    Figure("docs/explanation/guarantees.md", "within five seconds", upkeep.HEARTBEAT == 5),
    Figure("docs/explanation/guarantees.md", "two seconds at most", supervisor._SEND_AT_CLOSE == 2),
    Figure(CAPACITY, "up to sixty-four times the capacity", router._SLACK == 64),
    Figure(CAPACITY, "a quarter of a second at most", windows.ANSWER_WITHIN == 0.25),
    Figure(CAPACITY, "asked again after a second", windows._ASK_AGAIN_AFTER == 1),
    Figure(ORM, "every five seconds", orm.HEARTBEAT == 5),
    Figure(ORM, "after thirty seconds of silence", orm_nodes.FORGOTTEN_AFTER == 30),
    Figure(ORM, "answered within two seconds", orm_nodes._ANSWERS_WITHIN == 2),
    Figure(ORM, "after ten seconds", orm_session._STANDSTILL == 10),
    Figure(ORM, "given up after a second", orm_session._LOCK_WAIT == 1),
    Figure("docs/howto/database.md", "again within 2 ms", orm_pace._QUICKEST == 0.002),
    Figure(ORM, "finds four messages and more", orm._MANY == 4),
    Figure(ORM, "does not answer rings for two milliseconds", orm_transport._DEAF_FOR == 0.002),
    Figure(
        ORM,
        "every tenth of a millisecond, and after five milliseconds every millisecond",
        (orm_beginning._SOON, orm_beginning._LONG, orm_beginning._LATER) == (0.0001, 0.005, 0.001),
    ),
    Figure(ORM, "for five milliseconds at most", orm_claiming._REST == 0.005),
    Figure("docs/howto/database.md", "looks once a second", orm._RESTING_LOOK == 1),
    Figure(LOG, "A row of up to 2 KiB", rings._LARGEST_ROW == 2 * 1024),
    Figure(LOG, "A letter of up to 64 KiB", rings.LONGEST == 64 * 1024),
    Figure(LOG, "What is larger, up to 16 MiB", rings.LARGEST_LETTER == 16 * MIB),
    Figure(LOG, "Every five seconds", upkeep.HEARTBEAT == 5),
    Figure(LOG, "after each mebibyte of traffic", traffic._BUSTLE == MIB),
    Figure(LOG, "in steps of 200 rows", upkeep._ROWS_PER_STEP == 200),
    Figure(LOG, "more than 24 MiB wait for it", upkeep._LOG_LIMIT_BYTES == 24 * MIB),
    Figure(LOG, "not heard of for 30 seconds", upkeep.FORGOTTEN_AFTER == 30),
    Figure(LOG, "half a mebibyte or more", upkeep._CHECKPOINT_AFTER == MIB // 2),
    Figure(LOG, "from 6 MiB on a `RESTART`", upkeep._RESTART_AFTER == 6 * MIB),
    Figure(LOG, "the next poll, once a\nsecond", transport._SAFETY_POLL == 1),
    Figure(
        LOG,
        "after 0.3 ms (after ten times every 5 ms)",
        (pump._QUICK_RETRY, pump._QUICK_TRIES, pump._SLOW_RETRY) == (0.0003, 10, 0.005),
    ),
    Figure("docs/reference/sqlite-files.md", "`journal_size_limit` of 8 MiB", connection._WAL_KEPT == 8 * MIB),
    Figure("docs/howto/postgres.md", "PostgreSQL 12 or newer", connecting.MINIMUM_SERVER == 12_00_00),
    Figure(
        "docs/howto/postgres.md",
        "within 25 seconds",
        [int(settings._DEFAULTS[f"keepalives_{name}"]) for name in ("idle", "interval", "count")] == [10, 5, 3],
    ),
    Figure("docs/howto/postgres.md", "within five (`connect_timeout`)", settings._DEFAULTS["connect_timeout"] == "5"),
    Figure(POSTGRES, "up to\n5,800 bytes", writer._LARGEST_FRAME == 5_800),
    Figure(POSTGRES, "every two seconds a node sends", postgres_upkeep.HEARTBEAT == 2),
    Figure(POSTGRES, "comes back for 15 seconds", postgres_upkeep._DEAF_AFTER == 15),
    Figure(POSTGRES, "hashed into 64 shards", names.SHARDS == 64),
    Figure(POSTGRES, "4 MiB or was not emptied", postgres_upkeep._ENOUGH == 4 * MIB),
    Figure(POSTGRES, "after each mebibyte", postgres._BUSTLE == MIB),
    Figure(POSTGRES, "both together have 40 MiB", postgres_upkeep._LIMIT == 40 * MIB),
    Figure(POSTGRES, "stopped for 30 seconds", postgres_upkeep._SILENT_AFTER == 30),
    Figure(POSTGRES, "each 2,000 of them", postgres_upkeep._VACUUM_AFTER == 2_000),
    Figure(POSTGRES, "three seconds after a heartbeat", postgres_upkeep._ALIVE_FOR == 3),
    Figure(
        POSTGRES,
        "every 50 ms while messages come, and every 250 ms else",
        (doorwatch._LOOK_OFTEN, doorwatch._LOOK_SELDOM) == (0.05, 0.25),
    ),
    Figure("docs/explanation/performance.md", "frees one of 8 MiB", large._ROOM == 8 * MIB),
    Figure(TABLES, "above 5,800 bytes", writer._LARGEST_FRAME == 5_800),
    Figure(TABLES, "every 2 s", postgres_upkeep.HEARTBEAT == 2),
    Figure(TABLES, "for 3 s", postgres_upkeep._ALIVE_FOR == 3),
    Figure(TABLES, "after 30 s", postgres_upkeep._SILENT_AFTER == 30),
    Figure(TABLES, "after 15 s", postgres_upkeep._DEAF_AFTER == 15),
    Figure(TABLES, "at 4 MiB or after 60 s", postgres_upkeep._ENOUGH == 4 * MIB),
    Figure(TABLES, "| 40 MiB |", postgres_upkeep._LIMIT == 40 * MIB),
    Figure(TABLES, "every 5 s", postgres._TIDY_EVERY == 5),
    Figure(
        TABLES,
        "`lock_timeout` 2 s, `idle_in_transaction_session_timeout` 15 s",
        "lock_timeout = '2s'" in connecting._SET_UP and "session_timeout = '15s'" in connecting._SET_UP,
    ),
    Figure("docs/reference/options.md", "looks every second", transport._SAFETY_POLL == 1),
]


@pytest.mark.parametrize("figure", FIGURES, ids=[f"{figure.page}: {figure.phrase}" for figure in FIGURES])
def test_figure(figure: Figure) -> None:
    assert figure.phrase in read(figure.page)
    assert figure.holds


def test_measured_figures_are_those_of_the_result_that_is_kept() -> None:
    """Nobody writes them by hand; `python benchmarks/publish.py RESULT.json` does."""
    check = [sys.executable, "benchmarks/publish.py", "--check"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", pages())
def test_images_are_there(page: str) -> None:
    for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", read(page)):
        assert (ROOT / page).parent.joinpath(name).is_file(), name
