"""Django Channels channel layers on what a team already runs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .layer_url import config

__version__ = "0.1.0"

__all__ = ["__version__", "config"]


def __getattr__(name: str) -> Any:
    # Importing the package imports nothing else: what reads the version needs no Channels.
    if name != "config":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .layer_url import config

    return config
