"""Plans of the README, the tutorial and the how-to pages."""

from tests.docs.treatments import File, Plan, Run, Settings, Shell, Unit

README = Plan(
    blocks=[
        Shell(begins="make demo"),
        Shell(begins="pip install ."),
        Settings(begins="INSTALLED_APPS = "),
        Settings(begins="CHANNEL_LAYERS = {"),
        Settings(begins="import os", postgres=True),
        Settings(begins="import os", rabbitmq=True),
        Settings(begins="CHANNEL_LAYERS = {", migrate=["default"]),
        Settings(begins="CHANNEL_LAYERS = {"),
        Settings(begins="import os"),
        Run(
            begins="from channels.layers import get_channel_layer",
            after='assert message == {"type": "chat.message", "text": "hello"}',
        ),
        Run(
            begins="layer.sync.group_send",
            after='assert message == {"type": "chat.message", "text": "from a view"}',
        ),
    ]
)

TUTORIAL = Plan(
    blocks=[
        Shell(begins="pip install uvicorn websockets"),
        Shell(begins="django-admin startproject mysite", in_scenario=True),
        File(begins="INSTALLED_APPS += ", path="mysite/settings.py"),
        File(begins="<!DOCTYPE html>", path="chat/templates/chat/room.html"),
        File(begins="from django.shortcuts import render", path="chat/views.py"),
        File(begins="from django.urls import path", path="mysite/urls.py"),
        File(begins="from channels.generic.websocket", path="chat/consumers.py"),
        File(begins="from django.urls import path", path="chat/routing.py"),
        File(begins="import os", path="mysite/asgi.py"),
        Shell(begins="python manage.py check", in_scenario=True),
        Shell(begins="python -m uvicorn", in_scenario=True),
        Shell(begins="python manage.py shell -c", in_scenario=True),
    ]
)

CHOOSE = Plan(
    blocks=[
        Settings(begins="CHANNEL_LAYERS = "),
        Settings(begins="CHANNEL_LAYERS = ", replace=("/dev/shm/", "./")),
        Settings(begins='DATABASES["messages"] = '),
        Settings(begins="CHANNEL_LAYERS = ", messages=["channels_trunk.W002"]),
        Shell(begins="install --directory"),
        Settings(begins="CHANNEL_LAYERS = ", replace=("/var/lib/mysite/", "./")),
        Settings(begins="CHANNEL_LAYERS = "),
    ]
)

MOVE_FROM_IN_MEMORY = Plan(blocks=[Settings(begins="CHANNEL_LAYERS = ")])

MOVE_FROM_REDIS = Plan(blocks=[Settings(begins="import re"), Settings(begins="CHANNEL_LAYERS = ")])

MOVE_FROM_LITE = Plan(
    blocks=[Settings(begins='DATABASES["channels"] = ', messages=["channels_trunk.W001", "channels_trunk.W001"])]
)

SYNC = Plan(
    blocks=[
        Run(
            begins="from channels.layers import get_channel_layer",
            after="""
from django.test import RequestFactory
listener = get_channel_layer().sync.new_channel()
for group in ("news", "articles"):
    get_channel_layer().sync.group_add(group, listener)
hear = lambda: get_channel_layer().sync.receive(listener, timeout=10)
assert publish(RequestFactory().get("/", {"text": "of the day"})).status_code == 204
assert hear() == {"type": "news.item", "text": "of the day"}
""",
        ),
        Run(
            begins="from channels_trunk.exceptions import TransportUnavailable",
            after='assert hear() == {"type": "news.item", "text": "hello"}',
        ),
        Run(begins="def task(article_id):", after='task(8); assert hear() == {"type": "article.checked", "id": 8}'),
        Run(
            begins="layer = get_channel_layer()",
            after="""
assert answer is None
job = layer.sync.receive("thumbnails", timeout=10)
layer.sync.send(job["reply_to"], {"type": "made"})
assert layer.sync.receive(reply_to, timeout=10) == {"type": "made"}
""",
        ),
        Run(
            begins="import logging",
            after="""
get_channel_layer().sync.group_add("logs", listener)
logging.getLogger("channels_trunk").addHandler(GroupHandler())
logging.getLogger("channels_trunk").warning("the engine is away")
assert hear() == {"type": "log.line", "text": "the engine is away"}
""",
        ),
    ]
)

ON_COMMIT = Plan(
    blocks=[
        Run(
            begins="from channels.layers import get_channel_layer",
            after="""
listener = get_channel_layer().sync.new_channel()
get_channel_layer().sync.group_add("articles", listener)
hear = lambda: get_channel_layer().sync.receive(listener, timeout=10)["id"]
with transaction.atomic():
    publish([11, 12])
    assert get_channel_layer().stats().delivered_total == 0, "nothing is sent inside of the transaction"
assert [hear(), hear()] == [11, 12]
""",
        ),
        Run(begins="layer = get_channel_layer()", after="assert [hear(), hear()] == [1, 3]"),
        Run(
            begins="from asgiref.sync import sync_to_async",
            after="import asyncio; asyncio.run(view(None)); assert [hear(), hear()] == [4, 5]",
        ),
        Run(
            begins="from django.test import TestCase",
            after="""
import unittest
suite = unittest.defaultTestLoader.loadTestsFromTestCase(PublishTests)
result = unittest.TextTestRunner().run(suite)
assert result.testsRun == 1 and result.wasSuccessful()
assert hear() == 6
""",
        ),
    ]
)

WORKERS = Plan(
    blocks=[
        File(begins="from channels.consumer import AsyncConsumer", path="thumbnails.py"),
        File(begins="from channels.routing import", path="routing.py"),
        File(begins="ASGI_APPLICATION = ", path="settings.py"),
        Shell(begins="python manage.py runworker thumbnails", in_scenario=True),
        File(begins="from channels.layers import get_channel_layer", path="ask.py"),
        Settings(begins="CHANNEL_LAYERS = "),
    ]
)

TEST = Plan(
    blocks=[
        File(begins="from channels.layers import get_channel_layer", path="chat/test_consumers.py"),
        File(begins='DATABASES["default"]["TEST"]', path="mysite/settings.py"),
        File(begins="import json", path="chat/test_live.py"),
        Shell(begins="python manage.py test", in_scenario=True),
        File(begins="from channels.layers import get_channel_layer", path="chat/test_settings.py"),
        Settings(begins="CHANNEL_LAYERS = "),
    ]
)

DEPLOY = Plan(
    blocks=[
        Shell(begins="uvicorn mysite.asgi:application"),
        Unit(begins="[Unit]"),
        Shell(begins="/srv/mysite/venv/bin/python manage.py runworker"),
        Shell(begins="python manage.py check --deploy", in_scenario=True),
        Settings(begins="CHANNEL_LAYERS = "),
    ]
)

ENCRYPTION = Plan(
    blocks=[
        Shell(begins="pip install '.[cryptography]'"),
        Settings(
            begins="import os", replace=('os.environ["CHANNEL_KEY"]', "'k3PZ0vXq1mT8wLr5Jc9dYb2NfHs6GaQeUi4Ox7Rt'")
        ),
        Run(
            begins="from channels_trunk.layers import SQLiteChannelLayer",
            before="from settings import BASE_DIR",
            after="""
last = SQLiteChannelLayer(path=path, symmetric_encryption_keys=["new"])
after.sync.send("jobs", {"type": "work", "n": 3})
assert last.sync.receive("jobs", timeout=10)["n"] == 3
""",
        ),
        Run(begins="from channels_trunk.layers import SQLiteChannelLayer", before="from settings import BASE_DIR"),
    ]
)

WATCH = Plan(
    blocks=[
        Run(begins="from channels.layers import get_channel_layer", after='assert layer.health().state == "ok"'),
        Run(
            begins="import msgspec",
            after="""
import json
response = channels_health(None)
shown = json.loads(response.content)
assert response.status_code == 200
assert shown["state"] == "ok" and shown["gaps_total"] == 0
""",
        ),
        Settings(begins="LOGGING = {"),
    ]
)

TRANSPORT = Plan(
    blocks=[
        Run(begins="from channels_trunk.layers.base import TrunkChannelLayer"),
        Run(begins='layer = MeteredChannelLayer(room="hall")'),
        Run(
            begins="from channels_trunk.exceptions import TransportUnavailable",
            before="shown = []; print = lambda error: shown.append(str(error))",
            after="""
assert len(shown) == 1 and "send_timeout=1 s" in shown[0], shown
layer.sync.send("jobs", {"type": "work", "n": 3})
assert layer.sync.receive("jobs", timeout=10)["n"] == 3
""",
        ),
    ]
)

CONFORMANCE = Plan(
    blocks=[
        File(begins="import pytest", path="test_my_layer.py"),
        Shell(begins="python -m pytest test_my_layer.py", in_scenario=True),
        Run(
            begins="from channels_trunk.testing import eventually_blocking",
            before="from channels.layers import get_channel_layer; layer = get_channel_layer()",
        ),
        File(begins="import pytest", path="test_my_cuts.py"),
        Shell(begins="python -m pytest -p channels_trunk.testing.cuts.plugin", in_scenario=True),
        File(begins="import pytest", path="test_my_layer_by_model.py"),
        Shell(begins="python -m pytest test_my_layer_by_model.py", in_scenario=True),
    ]
)

DATABASE = Plan(
    blocks=[
        Settings(begins="INSTALLED_APPS = ", migrate=["default"]),
        Shell(begins="python manage.py migrate"),
        Settings(begins='DATABASES["messages"]', migrate=["messages"]),
        Shell(begins="python manage.py migrate channels_trunk --database messages"),
    ]
)
