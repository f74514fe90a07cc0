"""SQLite as a transport: one log of frames in a file, read by every node behind its own cursor."""

from .connection import SQLiteSettings
from .transport import SQLiteTransport

__all__ = ["SQLiteSettings", "SQLiteTransport"]
