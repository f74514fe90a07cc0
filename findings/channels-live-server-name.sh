#!/usr/bin/env bash
# Channels 4.3.2: the process of ChannelsLiveServerTestCase is told the name of the default test database by putting
# "test_" in front of NAME. Where the process is forked, as on Linux before Python 3.14, NAME is the test database's
# already: the server looks for "test_test_mysite", unless TEST has a NAME. And in a process of `manage.py test
# --parallel` a TEST NAME leads it to the first test database, not to the copy that the process's tests are in.
#
# Ends with an error if that is no longer so. Installs Channels, Daphne and Django into a temporary folder.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" --quiet --disable-pip-version-check install "channels==4.3.2" "daphne==4.2.3" "Django==5.2.19"

cat >"$work/finding.py" <<'PYTHON'
import multiprocessing
import sys

import channels
from django.conf import settings
from django.db import connections

TEST_NAME = sys.argv[1] or None
ENTRY = {"ENGINE": "django.db.backends.dummy", "NAME": "mysite", "TEST": {"NAME": TEST_NAME}}
settings.configure(DATABASES={"default": ENTRY}, INSTALLED_APPS=["channels"], SECRET_KEY="finding")

from channels.testing.live import set_database_connection


def child(names):
    set_database_connection()  # what ChannelsLiveServerTestCase gives its process as `setup`
    names.put(connections["default"].settings_dict["NAME"])


# As BaseDatabaseCreation.create_test_db() and setup_worker_connection() leave it.
settings.DATABASES["default"]["NAME"] = connections["default"].settings_dict["NAME"] = sys.argv[2]
context = multiprocessing.get_context("fork")
names = context.SimpleQueue()
process = context.Process(target=child, args=(names,))
process.start()
found = names.get()
process.join()
print(f"Channels {channels.__version__}, TEST NAME {TEST_NAME}: the tests are in {sys.argv[2]}, the server in {found}")
sys.exit(found != sys.argv[3])
PYTHON

"$work/venv/bin/python" "$work/finding.py" "" test_mysite test_test_mysite
"$work/venv/bin/python" "$work/finding.py" test_mysite test_mysite test_mysite
"$work/venv/bin/python" "$work/finding.py" test_mysite test_mysite_1 test_mysite
