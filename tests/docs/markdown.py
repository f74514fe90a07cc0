"""Reads the documentation: code blocks, links, headings and tables of a Markdown file."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CHECKED_LANGUAGES = frozenset({"python", "shell", "ini"})

_FENCE = re.compile(r"^```(.*)$")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$")
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """One fenced block."""

    page: str
    line: int  # of the first line of code, counted from 1
    language: str
    code: str

    @property
    def place(self) -> str:
        """For messages and test ids."""
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """The README and every page of the documentation, relative to the repository."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path.relative_to(ROOT).as_posix() for path in found]


def read(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, text: str | None = None) -> list[Block]:
    """Every fenced block of a page, in order; a fence that is not closed is an error."""
    found: list[Block] = []
    language: str | None = None
    begin = 0
    lines = (read(page) if text is None else text).splitlines()
    for number, line in enumerate(lines, start=1):
        fence = _FENCE.match(line)
        if fence is None:
            continue
        if language is None:
            language, begin = fence[1].strip(), number + 1
        else:
            found.append(Block(page, begin, language, "\n".join(lines[begin - 1 : number - 1]) + "\n"))
            language = None
    if language is not None:
        raise ValueError(f"{page}:{begin - 1}: the fence is not closed")
    return found


def prose(page: str, text: str | None = None) -> list[str]:
    """The lines of a page that are in no block; those in blocks are empty, so that numbers stay."""
    inside = False
    lines = []
    for line in (read(page) if text is None else text).splitlines():
        if _FENCE.match(line):
            inside = not inside
            lines.append("")
        else:
            lines.append("" if inside else line)
    return lines


def links(page: str, text: str | None = None) -> list[tuple[int, str]]:
    """The targets of all links, with their lines."""
    return [(n, target) for n, line in enumerate(prose(page, text), start=1) for target in _LINK.findall(line)]


def anchors(page: str, text: str | None = None) -> set[str]:
    """The anchors that the headings of a page make."""
    headings = (_HEADING.match(line) for line in prose(page, text))
    return {_anchor(heading[1]) for heading in headings if heading}


def _anchor(heading: str) -> str:
    plain = re.sub(r"[`*]", "", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def table(page: str, heading: str) -> list[list[str]]:
    """The rows, without the head, of the first table under a heading."""
    lines = prose(page)
    begin = next((n for n, line in enumerate(lines) if (m := _HEADING.match(line)) and m[1] == heading), None)
    if begin is None:
        raise LookupError(f"{page} has no heading {heading!r}")
    rows: list[list[str]] = []
    for line in lines[begin + 1 :]:
        if line.startswith("|"):
            rows.append([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))])
        elif rows or _HEADING.match(line):
            break
    return rows[2:]


def first_code(cell: str) -> str:
    """The first `code` in a cell."""
    found = re.search(r"`([^`]+)`", cell)
    return found[1] if found else ""
