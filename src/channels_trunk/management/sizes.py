"""How commands show numbers of bytes, and texts of others."""

from channels_trunk.names import printable

__all__ = ["shown_size", "shown_text"]


def shown_text(text: str) -> str:
    """Servers and checks may have several lines to say; what is in a line may be anybody's."""
    return "\n".join(map(printable, text.split("\n")))


def shown_size(count: float) -> str:
    """As in "1.5 MiB"."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
