"""A visit after others have died: uses both layers, waits until what the dead left is gone, and closes them."""

import os

import django

from channels_trunk.testing import eventually_blocking


def main() -> None:
    """Send, wait, and close."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.acceptance.deployed.settings"
    django.setup()
    from channels.layers import get_channel_layer
    from django.conf import settings

    def doorbells() -> int:
        return sum(path.is_socket() for path in settings.DATA_DIR.iterdir())

    for alias in ("default", "by_alias"):
        get_channel_layer(alias).sync.group_send("party", {"type": "party.said", "text": "a visit", "pid": os.getpid()})
    eventually_blocking(lambda: doorbells() <= 2, within=20, what="no sockets but our own two")
    for alias in ("default", "by_alias"):
        get_channel_layer(alias).sync.close()


if __name__ == "__main__":
    main()
