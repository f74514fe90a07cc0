"""Django system checks of CHANNEL_LAYERS, with stable ids. They read settings and look at files; they open nothing."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from channels.layers import BaseChannelLayer
from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.utils.module_loading import import_string

from .exceptions import OptionsError
from .file_systems import NETWORK_FILE_SYSTEMS, file_system_of

__all__ = ["check_channel_layers"]

_SQLITE = "channels_trunk.layers.SQLiteChannelLayer"


def check_channel_layers(app_configs: object = None, **kwargs: Any) -> list[CheckMessage]:
    """Check every entry of CHANNEL_LAYERS whose BACKEND is one of channels-trunk's."""
    found: list[CheckMessage] = []
    layers = getattr(settings, "CHANNEL_LAYERS", {})
    for alias, entry in layers.items() if isinstance(layers, Mapping) else ():
        backend = entry.get("BACKEND", "") if isinstance(entry, Mapping) else ""
        if isinstance(backend, str) and backend.startswith("channels_trunk."):
            found += _check_layer(alias, backend, entry.get("CONFIG", {}))
    return found


def _check_layer(alias: str, backend: str, config: Any) -> Iterator[CheckMessage]:
    where = f"CHANNEL_LAYERS[{alias!r}]"
    if not isinstance(config, Mapping) or not all(isinstance(name, str) for name in config):
        # Its content is not shown: there may be keys in it.
        given = "a dict with keys that are no strings" if isinstance(config, Mapping) else type(config).__name__
        yield Error(
            f"{where}['CONFIG'] must be a dict of option names to values, not {given}.",
            hint="Write it as a dict whose keys are the names of options.",
            id="channels_trunk.E001",
        )
        return
    try:
        layer_class = _layer_class(backend)
        layer = layer_class(**config)
    except ImportError as error:
        yield Error(f"{where}: {error}", hint=f"Correct BACKEND; it may be {_SQLITE!r}.", id="channels_trunk.E002")
        return
    except OptionsError as error:
        yield Error(str(error), hint="Correct the option named.", id="channels_trunk.E001")
        return
    for option in layer_class.options:
        if option.inert and option.name in config:
            yield CheckWarning(
                f"{where}['CONFIG'][{option.name!r}] does nothing: {option.inert}.",
                hint="Remove the option.",
                id="channels_trunk.W001",
            )
    if hasattr(layer, "find_settings"):
        yield from _check_sqlite(where, layer, config)


def _layer_class(backend: str) -> Any:
    found = import_string(backend)
    if not (isinstance(found, type) and issubclass(found, BaseChannelLayer)):
        raise ImportError(f"{backend} is not a channel layer")
    return found


def _check_sqlite(where: str, layer: Any, config: Mapping[str, Any]) -> Iterator[CheckMessage]:
    if layer.is_in_memory():
        return
    path = layer.find_settings().path
    directory = os.path.dirname(path)
    if not os.path.isdir(directory) or not os.access(directory, os.W_OK | os.X_OK):
        yield Error(
            f"{where}: the directory {directory} of the SQLite file is missing or cannot be written.",
            hint="Create it, or give this process the right to write there: SQLite makes files beside the database.",
            id="channels_trunk.E003",
        )
    kind = file_system_of(directory)
    if kind in NETWORK_FILE_SYSTEMS:
        yield CheckWarning(
            f"{where}: {path} is on a network file system ({kind}).",
            hint="Put it on a local disk of the machine; SQLite's WAL mode does not work between machines.",
            id="channels_trunk.W003",
        )
    if config.get("database") is not None and _has_other_tables(str(config["database"])):
        yield CheckWarning(
            f"{where}: the layer shares its SQLite file with the application's own tables.",
            hint="SQLite has one writer at a time: under heavy writing each waits for the other. Leave out 'database', "
            "and the layer has a file of its own beside the default database.",
            id="channels_trunk.W002",
        )


def _has_other_tables(alias: str) -> bool:
    """Whether Django keeps models in this database: the default one, or whatever DATABASE_ROUTERS send there."""
    return alias == "default" or (bool(settings.DATABASE_ROUTERS) and alias in settings.DATABASES)
