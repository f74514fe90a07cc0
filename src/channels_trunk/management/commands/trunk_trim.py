"""`manage.py trunk_trim`: remove what has expired, for layers with `auto_trim` off and for those who like to know."""

from argparse import ArgumentParser
from typing import Any

from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandError

from channels_trunk.management.choosing import add_layer_option, new_layer, opened
from channels_trunk.management.sizes import shown_size

__all__ = ["Command"]


class Command(BaseCommand):
    """As clean_channels of channels-lite; VACUUM is asked for."""

    help = "Remove expired messages and memberships of a layer from its engine."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The options."""
        add_layer_option(parser)
        parser.add_argument(
            "--vacuum", action="store_true", help="SQLite: write the file anew, without what is free in it"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Trim, then perhaps vacuum."""
        alias = options["layer"]
        layer = new_layer(alias)
        if options["vacuum"] and layer.file() is None:
            raise CommandError(
                f"CHANNEL_LAYERS[{alias!r}] is a {type(layer).__name__}, and not on a SQLite file: --vacuum is for "
                f"those alone"
            )
        with opened(layer):
            async_to_sync(layer.clean_expired)()
            self.stdout.write(f"{alias}: what had expired is removed")
        # When the layer is closed: VACUUM needs the file for itself.
        if options["vacuum"]:
            with opened(layer):
                sizes = layer.vacuum()
            said = "there is no file" if sizes is None else f"{shown_size(sizes[0])} before, {shown_size(sizes[1])} now"
            self.stdout.write(f"{alias}: vacuumed; {said}")
