"""The commands that pages may show: what each is, and how it is known to be right."""

import configparser
import re
import subprocess
import sys
from functools import cache
from typing import NamedTuple

from tests.docs.markdown import ROOT


class Known(NamedTuple):
    """A command that the tests of the pages do not run as it stands."""

    pattern: str
    reason: str


COMMANDS = (
    Known(r"make (demo|test|bench)", "run by other tests and by .ci/run; that the target exists is checked here"),
    Known(
        r"install --directory --group mysite --mode 2770 /var/lib/mysite",
        "needs root; tests/integration/sqlite/test_rights.py has two users share such a folder",
    ),
    Known(r"pip install \.", "needs the network; `make test` installs the package in the same way"),
    Known(r"pip install uvicorn websockets", "needs the network; they are among the dependencies of the tests"),
    Known(r"pip install '\.\[(cryptography|postgres)\]'", "needs the network; that the extra exists is checked here"),
    Known(
        r"(\S+/)?(uvicorn|daphne|gunicorn) .*",
        "a server: tests/acceptance/test_deployments_servers.py runs all three; the options are checked here",
    ),
    Known(
        r"python manage\.py trunk_schema( --layer \w+)?( --drop)?",
        "tests/integration/management runs what it prints, and docs/howto/postgres.md's scenario the command",
    ),
    Known(
        r"python manage\.py trunk_(doctor|status|trim|flush)( --layer \w+)?( --(json|vacuum|no-input))?",
        "tests/integration/commands runs each of them; that the option exists is checked by test_reference",
    ),
    Known(
        r"python manage\.py migrate( channels_trunk)?( --database messages)?",
        "the settings above it on docs/howto/database.md are tried after a migration of that database",
    ),
    Known(r"(\S+/)?(python )?manage\.py runworker [a-z-]+", "tests/acceptance/test_deployments.py runs a worker"),
)
_SERVERS = {"uvicorn", "daphne", "gunicorn"}


def lines(code: str) -> list[str]:
    """The commands of a shell block, without comments; a backslash at the end joins lines."""
    joined = code.replace("\\\n", " ")
    found = (line.partition("  #")[0].strip() for line in joined.splitlines())
    return [re.sub(r"\s+", " ", line) for line in found if line and not line.startswith("#")]


def is_known(line: str) -> bool:
    """Whether a command is in the table, and what can be checked of it holds."""
    if not any(re.fullmatch(known.pattern, line) for known in COMMANDS):
        return False
    words = [word.rpartition("/")[2] for word in line.split()]
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        return re.search(rf"^{words[1]}:", makefile, re.MULTILINE) is not None
    if words[0] == "pip" and "[" in line:
        extra = line.partition("[")[2].partition("]")[0]
        return re.search(rf"^{extra} = ", (ROOT / "pyproject.toml").read_text(), re.MULTILINE) is not None
    if words[0] in _SERVERS:
        options = {word.partition("=")[0] for word in words if word.startswith("-")}
        return options <= server_options(words[0])
    return True


@cache
def server_options(program: str) -> frozenset[str]:
    """The options that a server's --help names."""
    shown = subprocess.run([sys.executable, "-m", program, "--help"], capture_output=True, text=True, timeout=50)
    assert shown.returncode == 0, shown.stderr
    return frozenset(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", shown.stdout))


def parse_unit(code: str) -> configparser.ConfigParser:
    """A systemd unit, whose keys keep their case."""
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(code)
    return parser
