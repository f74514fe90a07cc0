"""Symmetric encryption of frames with Fernet; the keys are made as channels_redis makes them."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Protocol

from channels_trunk.exceptions import DecryptError, OptionsError

__all__ = ["Cipher", "make_cipher"]


class Cipher(Protocol):
    """The part of MultiFernet that the codec uses."""

    def encrypt(self, msg: bytes) -> bytes:
        """Return the token; the first key encrypts."""
        ...

    def decrypt(self, msg: bytes) -> bytes:
        """Return the plain bytes; every key is tried."""
        ...


class FernetCipher:
    """MultiFernet with this package's exceptions."""

    def __init__(self, keys: Sequence[str | bytes]) -> None:
        try:
            from cryptography.fernet import Fernet, InvalidToken, MultiFernet
        except ImportError as error:
            raise OptionsError(
                "symmetric_encryption_keys needs the package cryptography: pip install 'channels-trunk[cryptography]'"
            ) from error
        self._invalid: type[Exception] = InvalidToken
        self._fernet = MultiFernet([Fernet(_fernet_key(key)) for key in keys])

    def encrypt(self, msg: bytes) -> bytes:
        """Encrypt with the first key."""
        return self._fernet.encrypt(msg)

    def decrypt(self, msg: bytes) -> bytes:
        """Decrypt with whichever key fits; raises DecryptError."""
        try:
            return self._fernet.decrypt(msg)
        except self._invalid as error:
            raise DecryptError("none of symmetric_encryption_keys opens the frame") from error


def _fernet_key(key: str | bytes) -> bytes:
    raw = key.encode() if isinstance(key, str) else key
    return base64.urlsafe_b64encode(hashlib.sha256(raw).digest())


def make_cipher(keys: Sequence[str | bytes]) -> Cipher | None:
    """Return the cipher of `keys`, or None without keys."""
    return FernetCipher(keys) if keys else None
