"""Which layer a command is about."""

from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager

from channels.exceptions import InvalidChannelLayerError
from channels.layers import DEFAULT_CHANNEL_LAYER, channel_layers
from django.core.management.base import CommandError

from channels_trunk.exceptions import ChannelLayerError
from channels_trunk.layers.base import TrunkChannelLayer
from channels_trunk.management.sizes import shown_text

__all__ = ["add_layer_option", "known_aliases", "new_layer", "opened"]


def add_layer_option(parser: ArgumentParser, *, default: str | None = DEFAULT_CHANNEL_LAYER) -> None:
    """The option `--layer`."""
    shown = default or "every one"
    parser.add_argument("--layer", default=default, metavar="ALIAS", help=f"an alias in CHANNEL_LAYERS ({shown})")


def known_aliases() -> list[str]:
    """What CHANNEL_LAYERS names."""
    return sorted(channel_layers.configs)


def new_layer(alias: str) -> TrunkChannelLayer:
    """Make a layer object of the command's own, as closing the process's would take away what its consumers wait for.

    Raises CommandError if there is none, or if it is none of this package.
    """
    known = known_aliases()
    if alias not in known:
        raise CommandError(f"CHANNEL_LAYERS has no {alias!r}; known: {', '.join(known) or 'none'}")
    try:
        layer = channel_layers.make_backend(alias)
    except (InvalidChannelLayerError, ChannelLayerError, ImportError) as error:
        where = f"CHANNEL_LAYERS[{alias!r}]"
        raise CommandError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None
    if not isinstance(layer, TrunkChannelLayer):
        raise CommandError(
            f"CHANNEL_LAYERS[{alias!r}] is a {type(layer).__module__}.{type(layer).__qualname__}, which is no layer of "
            f"channels-trunk; name another alias by --layer"
        )
    return layer


@contextmanager
def opened(layer: TrunkChannelLayer) -> Iterator[None]:
    """Say what the layer raises as an error of the command, and close the layer."""
    try:
        yield
    except ChannelLayerError as error:
        raise CommandError(shown_text(str(error))) from None
    finally:
        layer.sync.close()
