"""Make .venv ready for a kind of work: ``python -m tools.bootstrap demo`` or ``dev``.

Runs under the system's Python, before anything is installed: standard library only.
A stamp file says what was installed, so that the second run costs next to nothing.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Each kind and those that it contains: a .venv made for tests can also run the demo.
KINDS = {"demo": ("demo",), "dev": ("dev", "demo")}
# The first pip that reads [dependency-groups].
PIP = "pip>=25.1"


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def fingerprint(*, pyproject: bytes, root: Path) -> str:
    """What an installation depends on: the requirements, and the folder that scripts and the editable install name."""
    return hashlib.sha256(pyproject + str(root).encode()).hexdigest()


def stamp(venv: Path, kind: str) -> Path:
    return venv / f"installed-{kind}"


def is_ready(venv: Path, kind: str, *, wanted: str) -> bool:
    try:
        return stamp(venv, kind).read_text() == wanted and works(venv)
    except OSError:
        return False


def works(venv: Path) -> bool:
    """Whether the environment's Python runs (its base may have been removed) and has pip."""
    check = "import sys, importlib.util as u; sys.exit(sys.version_info < (3, 11) or u.find_spec('pip') is None)"
    try:
        return subprocess.run([venv / "bin" / "python", "-c", check], check=False).returncode == 0
    except OSError:
        return False


def install(venv: Path, kind: str) -> None:
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--upgrade", PIP], check=True, cwd=ROOT)
    subprocess.run([*pip, "--editable", ".", "--group", kind], check=True, cwd=ROOT)


def prepare(venv: Path, kind: str) -> None:
    wanted = fingerprint(pyproject=(ROOT / "pyproject.toml").read_bytes(), root=ROOT)
    if is_ready(venv, kind, wanted=wanted):
        return
    if not works(venv):
        say(f"making a virtual environment in {venv.name} with {sys.executable}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
    say(f"installing channels-trunk and what '{kind}' needs into {venv.name} (the first time takes a minute or two)")
    install(venv, kind)
    for contained in KINDS[kind]:
        stamp(venv, contained).write_text(wanted)
    say(f"{venv.name} is ready")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in KINDS:
        print(f"usage: python -m tools.bootstrap {'|'.join(KINDS)}", file=sys.stderr)
        return 2
    try:
        prepare(ROOT / ".venv", arguments[0])
    except subprocess.CalledProcessError as error:
        print(f"\nThis step failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        print(
            "Its own message is above. Packages come over the network: is there a connection? Behind a mirror or",
            file=sys.stderr,
        )
        print("a proxy, set pip's own PIP_INDEX_URL or HTTPS_PROXY. Then run the command again.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
