"""Django Channels channel layers on what a team already runs."""

__version__ = "0.1.0"

__all__ = ["__version__"]
