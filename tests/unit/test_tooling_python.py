"""tools/find_python.sh and tools/bootstrap.py: a fresh machine, whatever Pythons it has."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools import bootstrap

FIND_PYTHON = bootstrap.ROOT / "tools" / "find_python.sh"


def script(folder: Path, name: str, text: str) -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return program


def imitate(folder: Path, name: str, *, new_enough: bool = True, complete: bool = True) -> Path:
    """A program that answers the script's questions as such a Python would."""
    answers = f"""
case "$2" in
    *version_info\\ \\<*) exit {0 if new_enough else 1};;
    *ensurepip*) [ -e "{folder}/installed" ] || exit {0 if complete else 1};;
    *executable*) echo "{folder / name}";;
    *-venv*) echo "python3.99-venv";;
esac"""
    return script(folder, name, answers)


def find_python(folder: Path, *, python: str = "", user: int = 1000) -> subprocess.CompletedProcess[str]:
    """Run the script where only `folder` is on PATH: it can install nothing on the machine that runs the tests."""
    script(folder, "id", f"echo {user}")
    environment = {"PATH": str(folder), "PYTHON": python}
    return subprocess.run(["/bin/sh", FIND_PYTHON], env=environment, capture_output=True, text=True, check=False)


def test_takes_the_default_python_when_it_is_new_enough(tmp_path: Path) -> None:
    wanted = imitate(tmp_path, "python3")
    imitate(tmp_path, "python3.13")
    assert find_python(tmp_path).stdout.strip() == str(wanted)


def test_passes_over_an_old_default(tmp_path: Path) -> None:
    imitate(tmp_path, "python3", new_enough=False)
    wanted = imitate(tmp_path, "python3.12")
    assert find_python(tmp_path).stdout.strip() == str(wanted)


def test_passes_over_a_python_without_venv_when_another_has_it(tmp_path: Path) -> None:
    imitate(tmp_path, "python3", complete=False)
    wanted = imitate(tmp_path, "python3.11")
    assert find_python(tmp_path).stdout.strip() == str(wanted)


def test_takes_the_python_it_is_told(tmp_path: Path) -> None:
    imitate(tmp_path, "python3")
    wanted = imitate(tmp_path, "mine")
    assert find_python(tmp_path, python=str(wanted)).stdout.strip() == str(wanted)


def test_says_so_when_there_is_no_python(tmp_path: Path) -> None:
    imitate(tmp_path, "python3", new_enough=False)
    result = find_python(tmp_path)
    assert result.returncode == 1
    assert "needs Python 3.11 or newer" in result.stderr
    assert result.stdout == ""


def test_names_the_package_when_venv_is_missing(tmp_path: Path) -> None:
    imitate(tmp_path, "python3", complete=False)
    result = find_python(tmp_path)
    assert result.returncode == 1
    assert "apt install python3.99-venv" in result.stderr


def test_installs_venv_as_root(tmp_path: Path) -> None:
    wanted = imitate(tmp_path, "python3", complete=False)
    script(tmp_path, "apt-get", f'[ "$*" = "install -y -q python3.99-venv" ] && echo done > "{tmp_path}/installed"')
    result = find_python(tmp_path, user=0)
    assert result.stdout.strip() == str(wanted)
    assert "installing python3.99-venv" in result.stderr


def test_says_so_when_root_cannot_install_venv(tmp_path: Path) -> None:
    imitate(tmp_path, "python3", complete=False)
    script(tmp_path, "apt-get", "exit 100")
    result = find_python(tmp_path, user=0)
    assert result.returncode == 1
    assert "apt install python3.99-venv" in result.stderr


def test_the_questions_are_right_for_this_python() -> None:
    result = subprocess.run(
        ["/bin/sh", FIND_PYTHON],
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(result.stdout.strip()).resolve() == Path(sys.executable).resolve()


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """A folder that looks like an environment: it borrows the Python that runs the tests, which has pip."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return tmp_path


def test_an_environment_is_ready_while_its_stamp_holds(venv: Path) -> None:
    bootstrap.stamp(venv, "dev").write_text("wanted")
    assert bootstrap.is_ready(venv, "dev", wanted="wanted")


def test_an_environment_is_not_ready_after_a_change(venv: Path) -> None:
    bootstrap.stamp(venv, "dev").write_text("before")
    assert not bootstrap.is_ready(venv, "dev", wanted="wanted")
    assert not bootstrap.is_ready(venv, "demo", wanted="wanted")


def test_an_environment_whose_python_is_gone_is_not_ready(venv: Path) -> None:
    bootstrap.stamp(venv, "dev").write_text("wanted")
    (venv / "bin" / "python").unlink()
    assert not bootstrap.is_ready(venv, "dev", wanted="wanted")


def test_the_fingerprint_follows_requirements_and_folder() -> None:
    first = bootstrap.fingerprint(pyproject=b"a", root=Path("/one"))
    assert first == bootstrap.fingerprint(pyproject=b"a", root=Path("/one"))
    assert first != bootstrap.fingerprint(pyproject=b"b", root=Path("/one"))
    assert first != bootstrap.fingerprint(pyproject=b"a", root=Path("/two"))


def test_an_unknown_kind_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.main(["everything"]) == 2
    assert "demo|dev" in capsys.readouterr().err
