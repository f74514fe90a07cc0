#!/usr/bin/env bash
# msgpack 1.2.4 and the json module pack Django's QueryDict with the last value of each key, and say nothing; msgspec
# 0.23.0 packs all values. So the same message, sent through channel layers that pack with one or the other, arrives
# with other content: {"tag": "b"}, or {"tag": ["a", "b"]}. A QueryDict holds lists, and its items() shows the last ones:
# msgspec reads what a dict holds, the others call items().
#
# Ends with an error if that is no longer so. Installs into a temporary folder. Needs python3-venv.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "Django==5.2.*" "msgpack==1.2.4" "msgspec==0.23.0"
"$work/venv/bin/python" - <<'PYTHON'
import json
import sys

import django
import msgpack
import msgspec
from django.conf import settings
from django.http import QueryDict

settings.configure()
query = QueryDict("tag=a&tag=b")
seen = {
    f"msgpack {'.'.join(map(str, msgpack.version))}": msgpack.unpackb(msgpack.packb(query)),
    f"json of Python {sys.version.split()[0]}": json.loads(json.dumps(query)),
    f"msgspec {msgspec.__version__}": msgspec.msgpack.decode(msgspec.msgpack.encode(query)),
}
print(f"Django {django.__version__}: {query}")
for packer, came in seen.items():
    print(f"{packer}: {came}")
if list(seen.values()) != [{"tag": "b"}, {"tag": "b"}, {"tag": ["a", "b"]}]:
    sys.exit("NOT as written above")
print("as written above")
PYTHON
