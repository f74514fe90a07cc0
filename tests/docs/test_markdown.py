"""The reading of pages itself: what the other tests stand on."""

import pytest

from tests.docs import markdown

PAGE = """# Title with `code`

[one](a.md) and ![picture](p.png) and [two](b.md#some-part)

```python
# not a heading
[no](link.md)
```

## Rows

| a | b |
|---|---|
| `x` | 1 \\| 2 |
"""


def test_blocks_have_their_language_line_and_code() -> None:
    assert markdown.blocks("page", PAGE) == [
        markdown.Block("page", 6, "python", "# not a heading\n[no](link.md)\n"),
    ]


def test_an_open_fence_is_an_error() -> None:
    with pytest.raises(ValueError, match="page:1: the fence is not closed"):
        markdown.blocks("page", "```python\nx = 1\n")


def test_links_and_headings_are_those_outside_of_code() -> None:
    assert markdown.links("page", PAGE) == [(3, "a.md"), (3, "b.md#some-part")]
    assert markdown.anchors("page", PAGE) == {"title-with-code", "rows"}


def test_rows_of_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "read", lambda page: PAGE)
    assert markdown.table("page", "Rows") == [["`x`", "1 | 2"]]
    with pytest.raises(LookupError, match="no heading 'Columns'"):
        markdown.table("page", "Columns")
    assert markdown.first_code("the `x` and `y`") == "x"
