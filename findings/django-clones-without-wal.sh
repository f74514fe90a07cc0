#!/usr/bin/env bash
# Django 5.2.19: `manage.py test --parallel` copies the file of a SQLite test database while its own connection has it
# open, and without the WAL. Where init_command sets WAL mode, as Django's documentation shows, the copies have no
# tables: "no such table". In the default journal mode the copies are whole.
#
# Ends with an error if that is no longer so. Installs Django into a temporary folder.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" --quiet --disable-pip-version-check install "Django==5.2.19" "tblib==3.2.2"

cd "$work"
mkdir notes
touch notes/__init__.py
cat >notes/models.py <<'PYTHON'
from django.db import models
class Note(models.Model):
    text = models.TextField()
PYTHON
cat >notes/tests.py <<'PYTHON'
from django.test import TestCase
from notes.models import Note
class First(TestCase):
    def test_one(self):
        Note.objects.create(text="one")
class Second(First):
    pass
PYTHON
cat >settings.py <<'PYTHON'
import os
INSTALLED_APPS = ["notes"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "finding"
OPTIONS = {"init_command": os.environ["INIT_COMMAND"]}
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3", "OPTIONS": OPTIONS, "TEST": {"NAME": "test.sqlite3"}}}
PYTHON
cat >manage.py <<'PYTHON'
import multiprocessing
from django.core.management import execute_from_command_line
if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    execute_from_command_line(["manage.py", "test", "--noinput", "--parallel=2"])
PYTHON

run() { # INIT_COMMAND
    INIT_COMMAND=$1 DJANGO_SETTINGS_MODULE=settings "$work/venv/bin/python" manage.py >out 2>&1
}

"$work/venv/bin/python" -c 'import django, sqlite3; print(f"Django {django.__version__}, SQLite {sqlite3.sqlite_version}")'
if run "PRAGMA journal_mode=DELETE"; then echo "default journal: the tests pass"; else cat out; exit 1; fi
if run "PRAGMA journal_mode=WAL"; then
    echo "WAL: the tests pass; this finding is over"
    exit 1
fi
grep -o -m1 "no such table: notes_note" out | sed 's/^/WAL: /'
