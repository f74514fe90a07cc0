"""Where Django looks for an engine."""

from typing import Any

from django.db.backends.postgresql import base

from tests.integration.postgres import minting


class DatabaseWrapper(base.DatabaseWrapper):
    """The last of the passwords is the one that holds."""

    def get_connection_params(self) -> dict[str, Any]:
        """Fetch it; what concerns the pool stays there, as with engines of this kind."""
        minting.asked.append(minting.passwords[-1])
        params: dict[str, Any] = super().get_connection_params()
        return params | {"password": minting.passwords[-1]}
