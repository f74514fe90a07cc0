"""The doctor by manage.py, with a child process; and the checks that ask a database."""

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from channels_trunk.checks import check_channel_layer_databases
from tests.docs.project import Project
from tests.integration.commands.conftest import POSTGRES, layers_of
from tests.plugins.servers import PgBouncerFactory, PostgresServer

SECRET = "opensesame-is-the-password"
IN_CHILD = "\nimport os, sys, time\nif sys.argv[0].endswith('answer.py'):\n"
MOUNTED = """
import subprocess, sys
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", "disk"], check=True)
sys.exit(subprocess.run([sys.executable, "-m", "django", "trunk_doctor", "--json"]).returncode)
"""
CAN_MOUNT = (
    sys.platform == "linux"
    and subprocess.run(["unshare", "--mount", "--map-root-user", "true"], capture_output=True, check=False).returncode
    == 0
)


def examined(project: Project, *program: str, seconds: int = 10) -> tuple[int, list[dict[str, Any]]]:
    """Run the doctor in a project; its exit code, and what it found."""
    words = program or (sys.executable, "-m", "django", "trunk_doctor", "--json", "--timeout", str(seconds))
    done = subprocess.run(
        words, cwd=project.folder, env=project.environment(), capture_output=True, text=True, timeout=50, check=False
    )
    assert SECRET not in done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


def last(found: tuple[int, list[dict[str, Any]]]) -> tuple[int, str, str]:
    """The exit code, and the code and the text of the last finding."""
    return found[0], found[1][-1]["code"], found[1][-1]["text"]


def test_a_project_that_works(tmp_path: Path, postgres_database: str) -> None:
    layers = layers_of(POSTGRES, dsn=postgres_database)
    for name, more in (("sqlite", ""), ("postgres", f"CHANNEL_LAYERS = {layers!r}\n")):
        code, found = examined(Project.tiny(tmp_path / name, settings=more))
        assert [finding["code"] for finding in found] == ["settings", "engine", "round-trip", "child"]
        assert code == 0


def test_clocks_that_differ(tmp_path: Path) -> None:
    shifted = IN_CHILD + "    time.time = lambda real=time.time, by={}: real() + by\n"
    project = Project.tiny(tmp_path / "much", settings=shifted.format(3600))
    code, word, text = last(examined(project))
    assert (code, word) == (1, "clock-skew")
    # What it takes to hear of its time is left out, on one side or the other.
    assert re.search(r"the clock of the child process differs by 3(600|59\d) s", text)
    code, found = examined(Project.tiny(tmp_path / "little", settings=shifted.format(-25)))
    assert [(finding["code"], finding["level"]) for finding in found[-2:]] == [
        ("clock-skew", "warning"),
        ("child", "ok"),
    ]
    assert code == 0


def test_a_child_that_fails(tmp_path: Path) -> None:
    project = Project.tiny(tmp_path, settings=f"{IN_CHILD}    raise RuntimeError({SECRET!r})\n")
    code, word, text = last(examined(project))
    assert (code, word) == (1, "child-unreached")
    assert text == "a child process with the same settings ended with the code 1 before it answered"


def test_a_child_with_a_file_of_its_own(tmp_path: Path) -> None:
    """As with a path that is relative, in processes that were started in different directories."""
    (tmp_path / "elsewhere").mkdir()
    layers = 'CHANNEL_LAYERS["default"]["CONFIG"] = {"path": "channels.sqlite3"}\n'
    project = Project.tiny(
        tmp_path / "site", settings=f"{layers}{IN_CHILD}    os.chdir({str(tmp_path / 'elsewhere')!r})\n"
    )
    code, word, text = last(examined(project, seconds=2))
    assert (code, word) == (1, "child-unreached")
    assert text == "in a child process with the same settings: no message arrived within 2 s"


@pytest.mark.skipif(not CAN_MOUNT, reason="needs a mount namespace of its own")
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    layers = 'CHANNEL_LAYERS["default"]["CONFIG"] = {"path": BASE_DIR / "disk" / "x.sqlite3"}\n'
    project = Project.tiny(tmp_path, settings=layers)
    (tmp_path / "disk").mkdir()
    found = examined(project, "unshare", "--mount", "--map-root-user", sys.executable, "-c", MOUNTED)
    assert last(found)[:2] == (1, "disk-full")


# --- W008


def test_tables_that_are_not_there(tmp_path: Path) -> None:
    project = Project.tiny(
        tmp_path, settings='CHANNEL_LAYERS["default"]["BACKEND"] = "channels_trunk.layers.DatabaseChannelLayer"\n'
    )
    code, word, text = last(examined(project))
    assert (code, word) == (1, "channels_trunk.W008")
    assert text.startswith("CHANNEL_LAYERS['default']: the tables of the layer are not up to date in the database ")
    assert "missing: 0001_initial" in text
    assert "no issues" in project.python("-m", "django", "check")
    assert "channels_trunk.W008" in project.python("-m", "django", "check", "--database", "default")
    # It runs the check as well, and is not to be stopped by it.
    project.python("-m", "django", "migrate")
    assert "no issues" in project.python("-m", "django", "check", "--database", "default")
    code, found = examined(project)
    # As Django makes the file.
    assert [finding["code"] for finding in found] == ["settings", "no-wal", "engine", "round-trip", "child"]
    assert found[1]["level"] == "warning"
    assert code == 0
    with closing(sqlite3.connect(tmp_path / "db.sqlite3")) as connection:
        # The child was given the time to sign off.
        assert connection.execute("SELECT node FROM channels_trunk_node").fetchall() == []


SEND = """
import django
django.setup()
from channels.layers import get_channel_layer
layer = get_channel_layer()
for channel in ("Jobs", "jobs", "jobs"):
    layer.sync.send(channel, {"type": "hello"})
layer.sync.close()
"""


def test_the_status_of_tables(tmp_path: Path) -> None:
    project = Project.tiny(
        tmp_path, settings='CHANNEL_LAYERS["default"]["BACKEND"] = "channels_trunk.layers.DatabaseChannelLayer"\n'
    )
    project.python("-m", "django", "migrate")
    project.python("-c", SEND)
    [status] = json.loads(project.python("-m", "django", "trunk_status", "--json"))
    assert status["survey"]["waiting"] == {"Jobs": 1, "jobs": 2}
    assert status["survey"]["size_bytes"] is None
    assert "  waiting    3 in 2 normal channels\n          2  jobs\n          1  Jobs\n" in project.python(
        "-m", "django", "trunk_status"
    )


# --- W007


def test_w007_for_a_pooler(postgres: PostgresServer, postgres_database: str, pgbouncer: PgBouncerFactory) -> None:
    pooled = pgbouncer(postgres).by_address(postgres_database)

    def checked(**config: Any) -> list[Any]:
        with override_settings(CHANNEL_LAYERS=layers_of(POSTGRES, **config)):
            return check_channel_layer_databases(databases=["default"])

    [message] = checked(dsn=pooled)
    assert message.id == "channels_trunk.W007"
    assert message.msg.startswith("CHANNEL_LAYERS['default']: PostgreSQL at 127.0.0.1:")
    assert "there is a pooler in front of the server" in message.msg
    assert "'listen_dsn'" in message.hint
    assert checked(dsn=pooled, listen_dsn=postgres_database) == []
    assert checked(dsn=postgres_database) == []


def test_manage_py_check_asks_the_database(
    tmp_path: Path, postgres: PostgresServer, postgres_database: str, pgbouncer: PgBouncerFactory
) -> None:
    pooled = pgbouncer(postgres).by_address(postgres_database)
    project = Project.tiny(tmp_path, settings=f"CHANNEL_LAYERS = {layers_of(POSTGRES, dsn=pooled)!r}\n")
    assert "no issues" in project.python("-m", "django", "check")
    assert "channels_trunk.W007" in project.python("-m", "django", "check", "--database", "default")
