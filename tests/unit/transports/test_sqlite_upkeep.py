"""What is removed from the log, and what stays; and whose clock decides."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from channels_trunk.clock import SYSTEM_CLOCK
from channels_trunk.exceptions import TransportUnavailable
from channels_trunk.names import new_node_id
from channels_trunk.transports.sqlite import clocks as clocks_module
from channels_trunk.transports.sqlite import upkeep as upkeep_module
from channels_trunk.transports.sqlite.clocks import Clocks
from channels_trunk.transports.sqlite.connection import SQLiteSettings, connect, create_schema
from channels_trunk.transports.sqlite.doorbell import Doorbell, Rung
from channels_trunk.transports.sqlite.log_reader import LEAP
from channels_trunk.transports.sqlite.presence import Presence
from channels_trunk.transports.sqlite.queues import Queues
from channels_trunk.transports.sqlite.upkeep import Upkeep
from tests.plugins.clock import FakeClock

KERNEL_TIME = clocks_module._kernel_time
NODES = [f"tk{number:016d}" for number in range(3)]
LASTS = 3_600.0


class File:
    """A file with the upkeep of one node, and the rows of others."""

    def __init__(self, path: str, clock: FakeClock) -> None:
        settings = SQLiteSettings(path, own_file=True)
        self.path, self.clock = path, clock
        self.db = connect(settings, busy_timeout=1)
        create_schema(self.db, path)
        queues = Queues("p", lambda _: 100)
        clocks = Clocks(clock.as_clock())
        doorbell = Doorbell(path, NODES[0])
        self.upkeep = Upkeep(
            connect(settings, busy_timeout=1),
            settings,
            doorbell,
            node=NODES[0],
            prefix="p",
            queues=queues,
            clocks=clocks,
        )
        self.upkeep.register("", (), 0, clock.time())

    def append(self, count: int, size: int = 10, *, lasts: float = LASTS, first: int | None = None) -> None:
        for number in range(count):
            self.db.execute(
                "INSERT INTO trunk_log (id, prefix, origin, expires_at, frame) VALUES (?, 'p', 'x', ?, zeroblob(?))",
                (None if first is None else first + number, self.clock.time() + lasts, size),
            )

    def other_has_read(self, position: int) -> None:
        self.db.execute(
            "INSERT OR REPLACE INTO trunk_nodes (node, prefix, doorbell, watching, position, seen_at) "
            "VALUES (?, 'p', '', '[]', ?, 0)",
            (NODES[1], position),
        )

    def trim(self) -> list[int]:
        self.upkeep.heartbeat((), self.upkeep.newest(), self.clock.time())
        while self.upkeep.trim(self.clock.time(), self.clock.monotonic()):
            pass
        return [row for (row,) in self.db.execute("SELECT id FROM trunk_log ORDER BY id")]


@pytest.fixture
def file(tmp_path: Path, fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[File]:
    monkeypatch.setattr(clocks_module, "_kernel_time", lambda clock: 0.0)
    with ExitStack() as stack:
        file = File(str(tmp_path / "x.sqlite3"), fake_clock)
        stack.enter_context(closing(file.db))
        stack.callback(file.upkeep.close)
        yield file


def test_where_a_reader_stands_the_row_stays(file: File) -> None:
    file.append(10)
    file.other_has_read(4)
    assert file.trim() == list(range(4, 11))
    file.other_has_read(10)
    assert file.trim() == [10]


def test_what_has_expired_goes_though_somebody_has_not_read_it(file: File) -> None:
    file.append(5, lasts=1)
    file.append(5)
    file.other_has_read(0)
    file.clock.advance(2)
    assert file.trim() == [5, 6, 7, 8, 9, 10]


def test_large_messages_stay_for_who_goes_on_reading(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep_module, "_LOG_LIMIT_BYTES", 100_000)
    monkeypatch.setattr(upkeep_module, "_LOG_LIMIT_BYTES_IF_READ", 1_000_000)
    file.append(50, 10_000)
    for position in range(1, 20):
        file.other_has_read(position)
        file.clock.advance(5)
        assert file.trim()[0] == position
    file.clock.advance(5)
    assert file.trim()[0] == 19
    file.clock.advance(5)
    assert file.trim()[0] > 19


def test_a_log_that_is_far_too_large_is_cut_for_anybody(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep_module, "_LOG_LIMIT_BYTES_IF_READ", 1_000_000)
    file.append(200, 10_000)
    file.other_has_read(1)
    assert file.trim()[0] > 1


def test_ids_that_are_far_apart_are_trimmed_as_soon_as_others(file: File) -> None:
    file.append(10)
    file.append(10, first=3 * LEAP)
    file.other_has_read(3 * LEAP + 9)
    file.upkeep.heartbeat((), 3 * LEAP + 9, file.clock.time())
    assert file.upkeep.trim(file.clock.time(), file.clock.monotonic()) is False
    assert file.trim() == [3 * LEAP + 9]


def test_who_has_seen_another_log_makes_a_gap_that_all_find_and_only_one(file: File) -> None:
    file.append(10)
    for _ in range(3):
        file.upkeep.leap(100, file.clock.time())
        assert file.upkeep.newest() == 100 + LEAP


def test_who_registers_learns_whether_it_was_forgotten(file: File) -> None:
    assert file.upkeep.register("", (), 3, 0.0) == (3, True)
    file.db.execute("DELETE FROM trunk_nodes")
    assert file.upkeep.register("", (), 3, 0.0) == (3, False)


@pytest.mark.parametrize("is_held", [False, True])
def test_a_forgotten_nodes_socket_stays_if_it_is_only_out_of_reach_from_here(
    is_held: bool, file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = Doorbell(file.path, node := new_node_id())
    theirs.open()
    file.db.execute(
        "INSERT INTO trunk_nodes (node, prefix, doorbell, watching, position, seen_at) VALUES (?, 'p', ?, '[]', 0, 0)",
        (node, theirs.address),
    )
    rung = Rung.UNREACHABLE if is_held else Rung.NOBODY
    monkeypatch.setattr(Doorbell, "reach", lambda _self, _address: rung)
    file.upkeep.forget_the_silent(0.0)
    file.upkeep.forget_the_silent(2 * upkeep_module.FORGOTTEN_AFTER)
    assert file.db.execute("SELECT count(*) FROM trunk_nodes WHERE node = ?", (node,)).fetchone() == (0,)
    stays = os.path.exists(theirs.address)
    theirs.close()
    assert stays is is_held


def test_a_file_in_the_place_of_a_socket_does_not_say_that_a_process_is_gone(tmp_path: Path) -> None:
    own, other = Doorbell(path := str(tmp_path / "x.sqlite3"), NODES[0]), Doorbell(path, NODES[1])
    own.open()
    other.open()
    os.unlink(other.address)
    Path(other.address).touch()
    assert own.reach(other.address) is Rung.UNREACHABLE
    own.close()
    other.close()


def test_who_was_forgotten_is_told_so_though_its_socket_is_gone_as_well() -> None:
    """Opened again, the transport finds the row that was written just now."""
    gaps: list[str] = []
    presence: Any = Presence.__new__(Presence)
    presence._context = SimpleNamespace(sink=SimpleNamespace(gap=gaps.append), clock=SYSTEM_CLOCK)
    presence._doorbell = SimpleNamespace(is_whole=False, address="a socket")
    presence._reader = SimpleNamespace(position=3)
    presence._upkeep = SimpleNamespace(
        heartbeat=lambda *_arguments: (False, 0),
        register=lambda *_arguments: (3, False),
        forget_the_restored=lambda: None,
    )
    with pytest.raises(TransportUnavailable):
        presence.greet(())
    assert len(gaps) == 1


# --- clocks: seconds by which each of them is ahead, and by which it goes after the others


@pytest.fixture(autouse=True)
def no_kernel_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks_module, "_kernel_time", lambda clock: 0.0)


@pytest.mark.parametrize(
    ("own", "others", "ahead", "behind"),
    [
        (0, [], 0, 0),
        (0, [1, -1], 0, 0),
        (3600, [0], 3600, 0),
        (0, [3600], 0, 3600),
        (3600, [0, 0], 3600, 0),
        (0, [3600, 0], 0, 0),
        (-3600, [0, 0], 0, 3600),
        (0, [-3600, 0], 0, 0),
        (0, [-3600], 3600, 0),
        (-3600, [0], 0, 3600),
    ],
)
def test_who_differs_keeps_and_has_kept_for_longer(
    own: float, others: list[float], ahead: float, behind: float, fake_clock: FakeClock
) -> None:
    zero = fake_clock.time()
    fake_clock.set_wall(zero + own)
    clocks = Clocks(fake_clock.as_clock())
    clocks.compare([zero + other for other in others])
    assert (clocks.ahead, clocks.behind) == (ahead, behind)
    assert clocks.now() == fake_clock.time() - ahead


@pytest.mark.skipif(sys.platform != "linux", reason="others do not tell")
@pytest.mark.parametrize(
    "namespace", [[], ["unshare", "--time", "--boottime", "100000"]], ids=["here", "time namespace"]
)
def test_the_kernel_tells_its_time_though_a_clock_is_wrong(namespace: list[str]) -> None:
    if namespace and subprocess.run([*namespace, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no time namespaces")
    program = (
        "import time; from channels_trunk.clock import SYSTEM_CLOCK as right\n"
        "from channels_trunk.transports.sqlite.clocks import Clocks\n"
        "print(Clocks(right._replace(wall=lambda: time.time() + 3600)).offset())"
    )
    told = subprocess.run([*namespace, sys.executable, "-c", program], check=True, capture_output=True, text=True)
    # The time of booting is told in whole seconds, and a busy machine takes its time between two clocks.
    assert float(told.stdout) == pytest.approx(3600, abs=20)


@pytest.mark.skipif(sys.platform != "linux", reason="others do not tell")
def test_a_container_that_tells_its_own_uptime_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    stat = os.stat

    def mounted(path: Any, **options: Any) -> Any:
        return SimpleNamespace(st_dev=-1) if path == "/proc/uptime" else stat(path, **options)

    monkeypatch.setattr(os, "stat", mounted)
    monkeypatch.setattr(time, "clock_gettime", lambda _: 12.5)
    assert clocks_module._uptime() == 12.5


@pytest.mark.skipif(sys.platform != "linux", reason="others do not tell")
def test_who_cannot_ask_the_kernel_compares_nothing(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden() -> int:
        raise FileNotFoundError("/proc/stat")

    clocks = file.upkeep._clocks
    clocks.compare([file.clock.time() - 3600])
    assert clocks.ahead == 3600
    monkeypatch.setattr(clocks_module, "_booted_at", hidden)
    monkeypatch.setattr(clocks_module, "_kernel_time", KERNEL_TIME)
    file.upkeep.register("", (), 0, 0.0)
    file.upkeep.heartbeat((), 0, 0.0)
    assert file.db.execute("SELECT clock FROM trunk_nodes").fetchall() == [(None,)]
    clocks.compare([file.clock.time() - 3600])
    clocks.compare([file.clock.time() - 3600])
    assert (clocks.ahead, clocks.behind, clocks.difference) == (0, 0, "")


def test_a_difference_is_told_when_it_was_seen_twice(fake_clock: FakeClock) -> None:
    clocks = Clocks(fake_clock.as_clock())
    zero = fake_clock.time()
    clocks.compare([zero - 3600])
    assert clocks.difference == ""
    clocks.compare([zero])
    assert clocks.difference == ""
    clocks.compare([zero - 3600, zero - 3600])
    clocks.compare([zero - 3600, zero - 3600])
    assert "is 3600 s ahead of those of the other processes" in clocks.difference
    clocks.compare([zero + 3600, zero])
    assert "differ by 3600 s" in clocks.difference
    clocks.compare([zero])
    assert clocks.difference == ""
