"""Everything channels-trunk raises that the field has no name for yet.

A full channel is `channels.exceptions.ChannelFull` and a message that is too large is
`channels.exceptions.MessageTooLarge`: the specification names them, so there is no second one here.
"""

__all__ = [
    "ChannelLayerError",
    "CodecError",
    "DecodeError",
    "DecryptError",
    "EncodeError",
    "OptionsError",
    "SchemaMismatch",
    "TransportError",
    "TransportUnavailable",
    "WrongProcess",
]


class ChannelLayerError(Exception):
    """The base of all errors of this package."""


class OptionsError(ChannelLayerError, ValueError):
    """An option in CHANNEL_LAYERS is wrong; the text names the path, the value and the remedy."""


class WrongProcess(ChannelLayerError):
    """A process-specific channel was received from in a process that does not own it."""


class TransportError(ChannelLayerError):
    """The engine under the layer failed."""


class TransportUnavailable(TransportError):
    """The engine could not take the message within `send_timeout` seconds; the message was not sent."""


class SchemaMismatch(TransportError):
    """The tables of the store are not those that this version needs: they are newer, or missing and not to be made."""


class CodecError(ChannelLayerError):
    """A message or a frame could not be translated."""


class EncodeError(CodecError, TypeError):
    """A message holds a value that cannot be packed; the text names the path of the value."""


class DecodeError(CodecError):
    """A frame is malformed, of an unknown version, or of an unknown serializer format."""


class DecryptError(DecodeError):
    """None of the layer's keys opens a frame, or a frame is not encrypted though the layer has keys."""
