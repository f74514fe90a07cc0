"""Plans of the reference and the explanation."""

from tests.docs.treatments import Plan, Run, Schema, Settings

OPTIONS = Plan(blocks=[Settings(begins="import re")])

CONFIG = Plan(blocks=[Settings(begins="import os")])

API = Plan(
    blocks=[
        Run(begins="from channels.layers import get_channel_layer"),
        Run(
            begins="from channels_trunk.exceptions import EncodeError",
            before="import io, sys; sys.stdout, shown = io.StringIO(), sys.stdout",
            after="""
sys.stdout, printed = shown, sys.stdout.getvalue()
assert printed == "message['users'][0]['tags']: a value of type builtins.set cannot be packed\\n"
""",
        ),
        Run(
            begins="import pickle",
            after="""
from settings import BASE_DIR
from channels_trunk.layers import SQLiteChannelLayer
pickling = SQLiteChannelLayer(path=BASE_DIR / "pickle.sqlite3", serializer_format="pickle")
pickling.sync.send("jobs", {"type": "work", "tags": {1, 2}})
assert pickling.sync.receive("jobs", timeout=10) == {"type": "work", "tags": {1, 2}}
""",
        ),
    ]
)

CHECKS = Plan(blocks=[Settings(begins="CHANNEL_LAYERS = ")])

FRAMES = Plan(blocks=[Run(begins="import sqlite3", before="from settings import BASE_DIR")])

FILES = Plan(blocks=[Schema(begins="CREATE TABLE trunk_meta")])

ARCHITECTURE = Plan(languages={"text": 1})
