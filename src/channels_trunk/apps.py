"""The Django app: put "channels_trunk" into INSTALLED_APPS to get the system checks."""

from django.apps import AppConfig
from django.core.checks import Tags, register

__all__ = ["ChannelsTrunkConfig"]


class ChannelsTrunkConfig(AppConfig):
    """Registers the checks."""

    name = "channels_trunk"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "channels-trunk"

    def ready(self) -> None:
        """Called by Django once, at start."""
        from . import checks

        register(checks.check_channel_layers, Tags.compatibility)
        register(checks.check_channel_layer_processes, Tags.compatibility)
        register(checks.check_for_deployment, Tags.compatibility, deploy=True)
        register(checks.check_channel_layer_databases, Tags.database)
