"""Messages to bytes and back: pure functions of their input, no I/O, no event loop, no threads."""

from .codec import Codec
from .serializers import BaseMessageSerializer, register_serializer, serializer_formats
from .unreadable import unreadable

__all__ = ["BaseMessageSerializer", "Codec", "register_serializer", "serializer_formats", "unreadable"]
