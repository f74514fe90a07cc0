"""Every link between pages and files leads somewhere."""

from pathlib import PurePosixPath

import pytest

from tests.docs.markdown import ROOT, anchors, links, pages


def resolved(page: str, target: str) -> tuple[str, str]:
    """The path that a link names, relative to the repository, and its anchor."""
    path, _, anchor = target.partition("#")
    if not path:
        return page, anchor
    found = (ROOT / PurePosixPath(page).parent / path).resolve()
    return found.relative_to(ROOT).as_posix(), anchor


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: str) -> None:
    wrong = []
    for line, target in links(page):
        if target.startswith("https://"):
            continue
        path, anchor = resolved(page, target)
        if not (ROOT / path).exists() or (anchor and anchor not in anchors(path)):
            wrong.append(f"{page}:{line}: {target}")
    assert not wrong


def test_every_page_can_be_reached_from_the_readme() -> None:
    missing, todo = set(pages()), ["README.md"]
    while todo:
        page = todo.pop()
        missing.discard(page)
        targets = {resolved(page, target)[0] for _, target in links(page) if not target.startswith("https://")}
        todo += sorted((targets & missing) - set(todo))
    assert not missing
