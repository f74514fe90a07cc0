"""The entries of CHANNEL_LAYERS, and the layer objects that they make."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from django.conf import settings
from django.utils.module_loading import import_string

from channels_trunk.layers.base import TrunkChannelLayer

__all__ = ["Entry", "entries", "made"]


_READ = ("BACKEND", "CONFIG", "TEST_CONFIG", "ROUTING")


class Entry(NamedTuple):
    """One layer of the settings; `config` may be anything."""

    alias: str
    backend: str
    config: Any
    unread: tuple[str, ...] = ()
    """Keys of the entry that Channels does not read."""

    @property
    def where(self) -> str:
        """Its path in the settings."""
        return f"CHANNEL_LAYERS[{self.alias!r}]"

    @property
    def is_ours(self) -> bool:
        """Whether its BACKEND is one of this package."""
        return self.backend.startswith("channels_trunk.")

    @property
    def has_options(self) -> bool:
        """Whether `config` is what a layer can be made of."""
        return isinstance(self.config, Mapping) and all(isinstance(name, str) for name in self.config)

    def layer_class(self) -> type[TrunkChannelLayer]:
        """What BACKEND names; raises ImportError."""
        found = import_string(self.backend)
        if not (isinstance(found, type) and issubclass(found, TrunkChannelLayer)):
            raise ImportError(f"{self.backend} is not a channel layer")
        return found

    def layer(self) -> TrunkChannelLayer:
        """The layer; raises ImportError or OptionsError."""
        return self.layer_class()(**self.config)


def entries() -> Iterator[Entry]:
    """All entries that have a BACKEND, of whomever it is; the settings may be of any shape."""
    layers = getattr(settings, "CHANNEL_LAYERS", {})
    for alias, entry in layers.items() if isinstance(layers, Mapping) else ():
        backend = entry.get("BACKEND", "") if isinstance(entry, Mapping) else ""
        if isinstance(backend, str) and backend:
            unread = tuple(key for key in entry if key not in _READ)
            yield Entry(alias, backend, entry.get("CONFIG", {}), unread)


def made() -> Iterator[tuple[Entry, TrunkChannelLayer]]:
    """The entries of ours whose layers can be made, with the layers; others are for check_channel_layers() to tell."""
    for entry in entries():
        if entry.is_ours and entry.has_options:
            try:
                yield entry, entry.layer()
            except (ImportError, ValueError):
                continue
