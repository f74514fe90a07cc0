"""Django system checks of CHANNEL_LAYERS, with stable ids."""

from .databases import check_channel_layer_databases, check_migrations
from .processes import check_channel_layer_processes, check_for_deployment
from .settings import check_channel_layers, check_layer

__all__ = [
    "check_channel_layer_databases",
    "check_channel_layer_processes",
    "check_channel_layers",
    "check_for_deployment",
    "check_layer",
    "check_migrations",
]
