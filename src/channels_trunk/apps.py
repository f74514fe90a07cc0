"""The Django app: put "channels_trunk" into INSTALLED_APPS to get the system checks."""

from django.apps import AppConfig
from django.core.checks import Tags, register

__all__ = ["ChannelsTrunkConfig"]


class ChannelsTrunkConfig(AppConfig):
    """Registers the checks."""

    name = "channels_trunk"
    verbose_name = "channels-trunk"

    def ready(self) -> None:
        """Called by Django once, at start."""
        from .checks import check_channel_layers

        register(check_channel_layers, Tags.compatibility)
