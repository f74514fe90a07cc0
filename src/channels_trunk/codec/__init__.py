"""Messages to bytes and back: pure functions of their input, no I/O, no event loop, no threads."""

from .codec import Codec
from .serializers import BaseMessageSerializer, register_serializer, serializer_formats
from .slots import ANY, LOG, Slot, check_slot, check_slots, moved, slot_of_channel, slot_of_node
from .unreadable import unreadable

__all__ = [
    "ANY",
    "LOG",
    "BaseMessageSerializer",
    "Codec",
    "Slot",
    "check_slot",
    "check_slots",
    "moved",
    "register_serializer",
    "serializer_formats",
    "slot_of_channel",
    "slot_of_node",
    "unreadable",
]
