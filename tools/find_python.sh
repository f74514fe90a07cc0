#!/bin/sh
# Prints the path of a Python that can make this project's virtual environment: 3.11 or newer, with venv and ensurepip.
# PYTHON=/path/to/python puts one in front of the search. Everything but the answer goes to stderr.
set -u

new_enough='import sys; sys.exit(sys.version_info < (3, 11))'
complete='import venv, ensurepip'
where='import sys; print(sys.executable)'
incomplete=''

# Candidates are run, not only looked up: a version manager's shim may exist for a Python that is not switched on.
for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
    "$candidate" -c "$new_enough" >/dev/null 2>&1 || continue
    if "$candidate" -c "$complete" >/dev/null 2>&1; then
        exec "$candidate" -c "$where"
    fi
    incomplete=${incomplete:-$candidate}
done

if [ -z "$incomplete" ]; then
    echo "channels-trunk needs Python 3.11 or newer, and found none on PATH." >&2
    echo "Install one, or name it: make test PYTHON=/path/to/python3.11" >&2
    exit 1
fi

# Debian and Ubuntu keep venv and ensurepip in a package of their own.
package="$("$incomplete" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "$incomplete lacks venv: installing $package" >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$package" >&2 ||
        { apt-get update -q >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$package" >&2; }
    if "$incomplete" -c "$complete" >/dev/null 2>&1; then
        exec "$incomplete" -c "$where"
    fi
fi
echo "$incomplete is new enough but cannot make virtual environments." >&2
echo "Install its venv package (Debian, Ubuntu: apt install $package) and run the command again." >&2
exit 1
