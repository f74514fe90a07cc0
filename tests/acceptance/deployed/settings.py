"""A small site as people deploy it: the SQLite layer with no options, beside the default database."""

import os
from pathlib import Path

DATA_DIR = Path(os.environ["DEPLOYED_DATA_DIR"])

SECRET_KEY = "tests only"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["channels", "channels_trunk"]
ROOT_URLCONF = "tests.acceptance.deployed.urls"
ASGI_APPLICATION = "tests.acceptance.deployed.asgi.application"
STATIC_URL = "static/"  # the live-server test case asks for it
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "site.sqlite3",
        "TEST": {"NAME": DATA_DIR / "test_site.sqlite3"},  # the live-server test case takes no in-memory database
    },
    "messages": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "messages.sqlite3",
        "TEST": {"NAME": DATA_DIR / "test_messages.sqlite3"},
    },
}
CHANNEL_LAYERS = {
    "default": {"BACKEND": "channels_trunk.layers.SQLiteChannelLayer"},
    "by_alias": {"BACKEND": "channels_trunk.layers.SQLiteChannelLayer", "CONFIG": {"database": "messages"}},
}
