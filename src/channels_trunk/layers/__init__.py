"""The channel layers, for `BACKEND` in CHANNEL_LAYERS; each is imported when it is first asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .database import DatabaseChannelLayer
    from .memory import MemoryChannelLayer
    from .postgres import PostgresChannelLayer
    from .rabbitmq import RabbitMQChannelLayer
    from .sqlite import SQLiteChannelLayer

__all__ = [
    "DatabaseChannelLayer",
    "MemoryChannelLayer",
    "PostgresChannelLayer",
    "RabbitMQChannelLayer",
    "SQLiteChannelLayer",
]

_MODULES = {
    "DatabaseChannelLayer": "database",
    "MemoryChannelLayer": "memory",
    "PostgresChannelLayer": "postgres",
    "RabbitMQChannelLayer": "rabbitmq",
    "SQLiteChannelLayer": "sqlite",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
