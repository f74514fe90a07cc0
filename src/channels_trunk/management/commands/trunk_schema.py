"""`manage.py trunk_schema`: what the owner of the database runs, where processes may not make tables."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from channels_trunk.exceptions import ChannelLayerError
from channels_trunk.management.choosing import add_layer_option, new_layer

__all__ = ["Command"]


class Command(BaseCommand):
    """Prints; runs nothing."""

    help = "Print the SQL that makes (or with --drop removes) the tables of a PostgresChannelLayer; run nothing."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The options."""
        add_layer_option(parser)
        parser.add_argument("--drop", action="store_true", help="print what removes the tables instead")

    def handle(self, *args: Any, **options: Any) -> str:
        """Return what is printed."""
        alias = options["layer"]
        layer = new_layer(alias)
        try:
            script = layer.schema_script(drop=options["drop"])
        except ChannelLayerError as error:
            raise CommandError(str(error)) from None
        if script is None:
            raise CommandError(
                f"CHANNEL_LAYERS[{alias!r}] is a {type(layer).__name__}: only PostgresChannelLayer has statements "
                f"to print; name its alias by --layer"
            )
        return script
