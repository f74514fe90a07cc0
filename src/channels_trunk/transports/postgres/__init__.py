"""The PostgreSQL transport: a log in UNLOGGED tables, and notifications."""

from .settings import PostgresSettings
from .transport import PostgresTransport

__all__ = ["PostgresSettings", "PostgresTransport"]
