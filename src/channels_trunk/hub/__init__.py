"""The hub: one node's centre. It drives the transport, wakes receivers, and supervises; it owns one thread."""

from .hub import Hub, HubOptions, MustWait, Refused

__all__ = ["Hub", "HubOptions", "MustWait", "Refused"]
