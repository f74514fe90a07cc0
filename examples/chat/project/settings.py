"""Settings of the chat example: one SQLite file, no database server, no Redis, no tables of our own."""

import os
from pathlib import Path

from project.environment import allowed_hosts, secret_key, server_process

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("CHAT_DATA_DIR", BASE_DIR / "var"))
DATA_DIR.mkdir(parents=True, exist_ok=True)

DEBUG = os.environ.get("CHAT_DEBUG") == "1"
SECRET_KEY = secret_key(DATA_DIR)
ALLOWED_HOSTS = allowed_hosts(os.environ.get("CHAT_ALLOWED_HOSTS", ""))

INSTALLED_APPS = ["channels", "channels_trunk", "django.contrib.staticfiles", "rooms"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "rooms.middleware.ContentSecurityPolicy",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "project.urls"
ASGI_APPLICATION = "project.asgi.application"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
STATIC_URL = "static/"
USE_TZ = True

# The layer keeps its messages in a file of its own beside this database.
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA_DIR / "chat.sqlite3"}}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_trunk.layers.SQLiteChannelLayer",
        # Each consumer hears of it if the layer ever had to skip messages.
        "CONFIG": {"gap_event": "chat.gap"},
    }
}

# Which of the server processes this one is, for the pages to show; see run.py.
CHAT_SERVER = server_process(os.environ.get("CHAT_SERVER", ""))
# All server processes by name, such as "A=http://127.0.0.1:8000/ B=http://127.0.0.1:8001/".
CHAT_SERVERS = dict(server.split("=", 1) for server in os.environ.get("CHAT_SERVERS", "").split())
