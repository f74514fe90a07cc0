"""`manage.py trunk_flush`: drop all messages and groups of a layer, in every process."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from channels_trunk.management.choosing import add_layer_option, new_layer, opened

__all__ = ["Command"]


class Command(BaseCommand):
    """Asks before it does so."""

    help = "Drop all messages and groups of a layer, in every process."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The options."""
        add_layer_option(parser)
        parser.add_argument(
            "--no-input", "--noinput", action="store_false", dest="interactive", help="do it without asking"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask, then flush."""
        alias = options["layer"]
        layer = new_layer(alias)
        if options["interactive"]:
            self.stdout.write(
                f"This drops all messages and groups of CHANNEL_LAYERS[{alias!r}] (prefix {layer.prefix!r}) in every "
                f"process. Sockets that are open leave their groups."
            )
            if input("Type 'yes' to go on: ").strip() != "yes":
                self.stdout.write("Nothing was done.")
                return
        with opened(layer):
            layer.sync.flush()
        self.stdout.write(f"{alias}: flushed")
