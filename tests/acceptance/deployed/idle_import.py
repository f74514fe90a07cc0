"""Asks for the layers as settings modules and consumers do while they are imported; nothing may happen then."""

import gc
import os
import sys

import django

from channels_trunk.layers import SQLiteChannelLayer
from tests.acceptance.deployed.held import threads_and_files

WATCHED = ("open", "sqlite3.", "socket.", "os.", "shutil.", "subprocess.", "_thread.", "fcntl.", "tempfile.", "mmap.")


def main() -> None:
    """Print every audited event of the watched kinds, and what there is more of than before."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.acceptance.deployed.settings"
    django.setup()
    from channels.layers import get_channel_layer
    from django.db import connections

    # All modules are loaded now, Django's own for SQLite as well; only making a layer is watched.
    assert SQLiteChannelLayer is not None
    assert all(connection.vendor == "sqlite" for connection in connections.all())
    events: list[str] = []
    threads, files = threads_and_files()
    watching = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event.startswith(WATCHED):
            events.append(f"{event} {arguments}")

    sys.addaudithook(hook)
    layers = [get_channel_layer(), get_channel_layer("by_alias")]
    watching = False
    assert all(isinstance(layer, SQLiteChannelLayer) for layer in layers)
    threads_now, files_now = threads_and_files()
    del layers
    gc.collect()
    print("events:", events)
    print("more threads and files:", threads_now - threads, files_now - files)


if __name__ == "__main__":
    main()
