"""Markdown is kept as it was written, with its headings, fences and tables found."""

from __future__ import annotations

from pathlib import Path

from octavo.retrieve.documents import read
from octavo.retrieve.documents.formats.markdown import find_spans

SOURCE = """---
title: "A page"
author: Ada
---
Before.

# One *bold*

text

## Two `code`

```python
# not a heading
```

Three
=====

| a | b |
|---|---|
| 1 | 2 |

- item
---

Four
----
"""


def test_sections_and_blocks_are_where_they_should_be(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(SOURCE)
    document = read(path)
    assert document.title == "A page"
    assert document.metadata == {"title": "A page", "author": "Ada"}
    text = document.text
    headings = [
        (span.label, span.level, text[span.start : span.end]) for span in document.spans if span.kind == "heading"
    ]
    assert [(label, level) for label, level, _ in headings] == [
        ("One bold", 1),
        ("Two code", 2),
        ("Three", 1),
        ("Four", 2),
    ]
    assert headings[0][2].startswith("# One") and headings[0][2].endswith("```\n\n")
    assert headings[2][2].startswith("Three\n===") and headings[2][2].endswith("----\n")
    blocks = [text[span.start : span.end] for span in document.spans if span.kind == "block"]
    assert blocks == ["```python\n# not a heading\n```"]
    (table,) = [span for span in document.spans if span.kind == "table"]
    assert (text[table.start : table.end], table.label) == ("| a | b |\n|---|---|\n| 1 | 2 |", "a | b")
    assert document.headings_at(text.index("not a")) == ("One bold", "Two code")
    assert document.headings_at(0) == ()


def test_an_open_fence_runs_to_the_end() -> None:
    text = "~~~\n# no\n```\n"
    assert [(span.kind, text[span.start : span.end]) for span in find_spans(text)] == [("block", "~~~\n# no\n```")]
    assert find_spans("") == ()


def test_the_rust_book_has_the_headings_of_its_source(shared: Path) -> None:
    document = read(shared / "data/docs/rust-book-ch03-06.md")
    labels = [span.label for span in document.spans if span.kind == "heading"]
    assert "Variables and Mutability" in labels
    assert all("\n" not in label for label in labels)
    where = document.text.index("`mut`")
    assert "Variables and Mutability" in document.headings_at(where)
