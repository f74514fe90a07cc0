"""A router with little room, for its tests."""

from channels_trunk.router import Router

CAPACITY = 4
EXPIRY = 60.0
GROUP_EXPIRY = 100.0
CHANNELS = ("a", "b", "c")


def make_router(*, group_expiry: float = GROUP_EXPIRY, capacity: int = CAPACITY) -> Router:
    return Router(capacity_of=lambda _channel: capacity, group_expiry=group_expiry)
