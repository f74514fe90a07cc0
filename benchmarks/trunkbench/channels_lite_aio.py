"""channels-lite's AIO layer, which is let go of in time.

Its close() may wait for ever: a poll that was cancelled in the middle of a query has kept its connection, and the
connection's thread would keep the process from ending. Nothing that is measured is any different.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from contextlib import suppress
from functools import partial
from typing import Any

CLOSED_WITHIN = 2.0

_connections: Any = importlib.import_module("aiosqlite.core")
_connections.Thread = partial(threading.Thread, daemon=True)
_Original: Any = importlib.import_module("channels_lite.layers.aio").AIOSQLiteChannelLayer


class AIOSQLiteChannelLayer(_Original):
    """The same, but for the end."""

    async def close(self) -> None:
        """Give it up after a while."""
        with suppress(TimeoutError):
            await asyncio.wait_for(super().close(), CLOSED_WITHIN)
