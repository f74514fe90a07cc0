"""Names as the tables have them.

MySQL and SQL Server take names for equal that differ in case alone, or in spaces at the end. In the stored form capital
letters and spaces are written with characters that they do tell apart: "Room A" is stored as "^room^_^a".
"""

import re

__all__ = ["plain_name", "stored_name"]

_TO_ESCAPE = re.compile(r"[A-Z^ ]")
_ESCAPED = re.compile(r"\^(.)")


def stored_name(name: str) -> str:
    """The name as the tables have it."""
    return _TO_ESCAPE.sub(_escaped, name)


def plain_name(stored: str) -> str:
    """The name that stored_name() was given."""
    return _ESCAPED.sub(lambda match: " " if match[1] == "_" else match[1].upper(), stored)


def _escaped(match: re.Match[str]) -> str:
    return "^_" if match[0] == " " else f"^{match[0].lower()}"
