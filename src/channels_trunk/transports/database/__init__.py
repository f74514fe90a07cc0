"""The transport on any database that Django speaks."""

from .settings import DatabaseSettings
from .transport import DatabaseTransport

__all__ = ["DatabaseSettings", "DatabaseTransport"]
