"""A channel layer as the suite sees it, and how one is made and let go."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

__all__ = ["Layer", "close_layer", "configure_django", "make_layer"]

Message = dict[str, Any]


class Layer(Protocol):
    """The specification's methods, and those of this package, which only a layer that claims them need have."""

    async def new_channel(self, prefix: str = ...) -> str:
        """Return a new process-specific channel."""

    async def send(self, channel: str, message: Message) -> None:
        """Send to one channel."""

    async def receive(self, channel: str) -> Message:
        """Return the next message of a channel."""

    async def group_add(self, group: str, channel: str) -> None:
        """Add a channel to a group."""

    async def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group."""

    async def group_send(self, group: str, message: Message) -> None:
        """Send to each channel of a group."""

    async def flush(self) -> None:
        """Forget all messages and groups."""

    async def close(self) -> None:
        """Free everything."""

    extensions: Sequence[str]
    group_expiry: float
    sync: Any
    stats: Any
    health: Any


def configure_django(settings: Mapping[str, Any]) -> None:
    """Give Django the least settings that a layer may need, unless it has some already."""
    import django
    from django.conf import settings as django_settings

    if not django_settings.configured:
        django_settings.configure(**settings)
        if "INSTALLED_APPS" in settings:
            django.setup()  # a fifth of a second, which most layers can do without


def make_layer(backend: str, config: Mapping[str, Any]) -> Layer:
    """Make the layer that CHANNEL_LAYERS would make of BACKEND and CONFIG."""
    from django.utils.module_loading import import_string

    return cast(Layer, import_string(backend)(**config))


async def close_layer(layer: Layer) -> None:
    """Close a layer of whatever package: channels_redis has no close() but close_pools(), or only flush()."""
    for name in ("close", "close_pools", "flush"):
        if method := getattr(layer, name, None):
            await method()
            return
